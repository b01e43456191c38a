"""Errors of the commands. The message has one sentence a line, for a person. The exit code is for scripts.

CommandFailed               1
├── StackNotRunning         no local stack is running
├── EnvironmentNotDeployed  a CloudFormation stack or an output is missing
├── OrganizationUnknown
├── OrganizationContended   other writers kept changing the organization
├── RecordUnknown
├── TableBusy               DynamoDB throttled the reads, left items unread, or did not answer
├── TableUnreadable         an item does not have the form that this version writes
├── SumsDiffer              the exported records do not add up to the counters
├── PlanFileWrong           one line for each mistake
├── PlanUnknown
├── PlanUnreadable          the stored item is not a valid plan
├── PlanContended           another writer changed the plan since this run read it
├── PlanInUse               organizations are on the plan
├── NotConfirmed            the user did not confirm
└── UsageWrong              2  the command line is wrong
"""


class CommandFailed(Exception):
    """The command failed, and the message says why."""

    exit_code = 1


class StackNotRunning(CommandFailed):
    """No local stack is running."""


class EnvironmentNotDeployed(CommandFailed):
    """The deployment environment's stacks do not exist, or lack an output."""


class OrganizationUnknown(CommandFailed):
    """No organization with this name is stored."""


class OrganizationContended(CommandFailed):
    """Other writers changed the organization during every try."""


class RecordUnknown(CommandFailed):
    """The organization has no usage record under this idempotency key."""


class TableBusy(CommandFailed):
    """DynamoDB throttled the reads, left items unread, or did not answer."""


class TableUnreadable(CommandFailed):
    """An item of the organization does not have the form that this version writes."""


class SumsDiffer(CommandFailed):
    """The exported records do not add up to the counters. The message has one line for each feature."""


class PlanFileWrong(CommandFailed):
    """The file is not a valid plan file; nothing was written. The message has one line for each mistake."""


class PlanUnknown(CommandFailed):
    """No plan with this id is stored."""


class PlanUnreadable(CommandFailed):
    """The stored item is not a valid plan."""


class PlanContended(CommandFailed):
    """Another writer changed the plan since this run read it; this run did not change the plan."""


class PlanInUse(CommandFailed):
    """Organizations are on the plan, so it cannot be deleted."""


class NotConfirmed(CommandFailed):
    """The change needs a confirmation first; nothing was written."""


class UsageWrong(CommandFailed):
    """The command line is wrong."""

    exit_code = 2
