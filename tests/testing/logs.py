"""A log for each thing under test."""

import io
import itertools

from aws_lambda_powertools import Logger

_NUMBERS = itertools.count(1)


def logger(stream: io.StringIO | None = None) -> Logger:
    """A logger that writes to `stream`.

    Its name is new, because Powertools gives loggers of one name the stream of the first.
    """
    return Logger(service=f"test-{next(_NUMBERS)}", stream=stream or io.StringIO())
