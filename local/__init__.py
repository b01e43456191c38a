"""The whole service on this machine: the AWS emulator, the real `cdk deploy` to it, and a token issuer."""
