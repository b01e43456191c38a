"""Names on the command line: billing periods, features and idempotency keys."""

import argparse
import re
from collections.abc import Callable

from metering.model.names import FEATURE_PATTERN, KEY_PATTERN
from metering.model.periods import BILLING_PERIOD_PATTERN


def _parser(pattern: str, must_be: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {must_be}.")
        return text

    return read


billing_period = _parser(BILLING_PERIOD_PATTERN, "a billing period such as 2026-11")
feature = _parser(FEATURE_PATTERN, "a feature: 1 to 64 letters, digits, `_`, `.` or `-`, and a letter first")
idempotency_key = _parser(KEY_PATTERN, "an idempotency key: 1 to 255 visible ASCII characters")
