"""How long a call of another service may take."""

from typing import NamedTuple


class Timeouts(NamedTuple):
    """The bounds of one call, each of its tries included."""

    connect_s: float
    read_s: float
    tries: int

    @property
    def slowest_s(self) -> float:
        """How long a call takes whose every try is lost, without the waits between them."""
        return self.tries * (self.connect_s + self.read_s)
