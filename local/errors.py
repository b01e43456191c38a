"""The error of a failed start of the local stack. Its message is one sentence for the user."""


class StartFailed(Exception):
    """The local stack did not start, and none of its processes runs. The message says why."""
