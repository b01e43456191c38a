"""Time limits for calls to other services."""

from typing import NamedTuple


class Timeouts(NamedTuple):
    """The limits of one call. `connect_s` and `read_s` apply to each of its `tries`."""

    connect_s: float
    read_s: float
    tries: int

    @property
    def slowest_s(self) -> float:
        """The duration of a call if every try times out, without the waits between tries."""
        return self.tries * (self.connect_s + self.read_s)
