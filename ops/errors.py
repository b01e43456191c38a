"""How a command can fail. The message is one sentence, for a person; the exit code is for scripts.

CommandFailed               1
├── StackNotRunning         no local stack to talk to
├── EnvironmentNotDeployed  no such stacks in the cloud, or they lack an output
├── OrganizationUnknown
└── UsageWrong              2  asked for something that this command does not do
"""


class CommandFailed(Exception):
    """What was asked did not happen, and the message says why."""

    exit_code = 1


class StackNotRunning(CommandFailed):
    """There is no running local stack."""


class EnvironmentNotDeployed(CommandFailed):
    """The environment's stacks do not exist, or are not ours."""


class OrganizationUnknown(CommandFailed):
    """No such organization is stored."""


class UsageWrong(CommandFailed):
    """The arguments ask for something that cannot be."""

    exit_code = 2
