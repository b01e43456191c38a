"""An output that looks like a terminal to commands."""

import io


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
