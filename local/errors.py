"""How the local stack can fail to start: always this, with one sentence for whoever wanted to start it."""


class StartFailed(Exception):
    """The local stack did not start, and nothing of it is left. The message says why."""
