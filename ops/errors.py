"""How a command can fail. The message is one sentence a line, for a person; the exit code is for scripts.

CommandFailed               1
├── StackNotRunning         no local stack to talk to
├── EnvironmentNotDeployed  no such stacks in the cloud, or they lack an output
├── OrganizationUnknown
├── OrganizationContended   others kept changing it
├── PlanFileWrong           one line for each mistake
├── PlanUnknown
├── PlanUnreadable          what is stored is no plan
├── PlanContended           somebody else changed it meanwhile
├── NotConfirmed            what needs a yes did not get one
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


class OrganizationContended(CommandFailed):
    """The organization was changed by others at every try."""


class PlanFileWrong(CommandFailed):
    """The file does not describe plans; nothing was written. The message has one line for each mistake."""


class PlanUnknown(CommandFailed):
    """No such plan is stored."""


class PlanUnreadable(CommandFailed):
    """What is stored as a plan is none."""


class PlanContended(CommandFailed):
    """The plan is no longer what it was when it was read; nothing of it was written."""


class NotConfirmed(CommandFailed):
    """Somebody has to say yes to this first; nothing was written."""


class UsageWrong(CommandFailed):
    """The arguments ask for something that cannot be."""

    exit_code = 2
