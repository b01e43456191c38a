"""An output that commands take for a terminal."""

import io


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
