"""A separate logger for each object under test."""

import io
import itertools

from aws_lambda_powertools import Logger

_NUMBERS = itertools.count(1)


def logger(stream: io.StringIO | None = None) -> Logger:
    """A logger that writes to `stream`.

    Each logger has a new name, because Powertools gives loggers with the same name the stream of the first one.
    """
    return Logger(service=f"test-{next(_NUMBERS)}", stream=stream or io.StringIO())
