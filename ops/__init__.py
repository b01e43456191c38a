"""The `metering` command: what an operator does to a deployed stack. Never bundled."""
