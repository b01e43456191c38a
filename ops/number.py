"""Numbers as people write them, at the command line as in plans' files: in the one form on which all readers agree.

0  15  -60  0.5        and not 015, +15, 1_000, 1e3, " 15" or digits of other scripts
"""

import argparse
import re
from collections.abc import Callable

# YAML 1.1 sees 8 in `010`, Python 10; to people 1_000 may be a thousand.
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,99}")
_SECONDS = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?")


def whole(text: str) -> int:
    """The whole number that `text` is.

    Raises: ValueError.
    """
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def whole_number(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """What reads an option's whole number, from `least` to `most`."""
    bounds = "".join(f" {word} {bound}" for word, bound in (("from", least), ("to", most)) if bound is not None)

    def read(text: str) -> int:
        try:
            number = whole(text)
        except ValueError:
            number = None
        if number is None or (least is not None and number < least) or (most is not None and number > most):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number{bounds}: write only its digits, without a plus sign or leading zeros."
            )
        return number

    return read


def seconds(text: str) -> float:
    """What reads an option's seconds."""
    if not _SECONDS.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds, as 30 or 0.5: write only digits, without a sign or leading zeros."
        )
    return float(text)
