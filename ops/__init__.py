"""The `metering` command, for operators of a deployed stack. The Lambda bundle does not contain it."""
