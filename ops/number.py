"""Numbers on the command line and in plan files, in the one form that every parser reads alike.

0  15  -60  0.5        but not 015, +15, 1_000, 1e3, " 15" or digits of other scripts
"""

import argparse
import re
from collections.abc import Callable

# YAML 1.1 reads `010` as 8 and Python reads it as 10. Some people write 1_000 for a thousand.
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,99}")
_SECONDS = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?")


def whole(text: str) -> int:
    """Parse `text` as a whole number.

    Raises: ValueError.
    """
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def whole_number(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Return a parser for an option's whole number from `least` to `most`."""
    bounds = "".join(f" {word} {bound}" for word, bound in (("from", least), ("to", most)) if bound is not None)

    def read(text: str) -> int:
        try:
            number = whole(text)
        except ValueError:
            number = None
        if number is None or (least is not None and number < least) or (most is not None and number > most):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number{bounds}: write digits only, without a plus sign or leading zeros."
            )
        return number

    return read


def seconds(text: str) -> float:
    """Parse an option's seconds."""
    if not _SECONDS.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds such as 30 or 0.5: write it without a sign or leading zeros."
        )
    return float(text)
