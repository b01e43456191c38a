"""What a command prints, and how it ends when nobody can read that.

    standard output          a listing ends with       work goes on, and
    closed, or not read      exit code 141, silently   says nothing more
    not writable, as full    exit code 1, and why      says the rest on standard error

Messages that standard error does not take are lost. A closed standard input is an empty one. Characters that a terminal
obeys instead of showing them, and those that its encoding lacks, are printed as JSON's escapes.
"""

import codecs
import errno
import functools
import io
import os
import select
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal, ParamSpec, TypeAlias

_P = ParamSpec("_P")
_Lost: TypeAlias = Callable[[OSError, bytes], None]

# 128 and SIGPIPE: what a shell reports of a program that wrote to a pipe without a reader.
CUT = 141


def command(name: str, *, works: bool = False) -> Callable[[Callable[_P, int]], Callable[_P, int]]:
    """Make of a function that prints, and returns an exit code, the main function of the command `name`.

    A command that `works` is not ended by an output that cannot be written; others are listings.
    """

    def decorate(main: Callable[_P, int]) -> Callable[_P, int]:
        @functools.wraps(main)
        def run(*arguments: _P.args, **options: _P.kwargs) -> int:
            _open_what_is_closed()
            # Python 3.14 colors the help by control characters, which would be shown.
            os.environ["PYTHON_COLORS"] = "0"
            with _replaced("stderr", _ignore), _replaced("stdout", _end):
                try:
                    with working() if works else nullcontext():
                        return main(*arguments, **options)
                except _Unwritable as unwritable:
                    if unwritable.is_cut:
                        return CUT
                    print(f"{name}: the output cannot be written: {unwritable}.", file=sys.stderr)
                    return 1

        return run

    return decorate


@contextmanager
def working() -> Iterator[None]:
    """Within, an output that cannot be written ends nothing: what is done matters, and not who hears of it."""
    with _replaced("stdout", _Elsewhere()):
        yield


def escaped(text: str) -> str:
    """`text` with every character escaped that a terminal would obey, but for line breaks.

    These are the control and format characters, such as those that change the direction of text, the separators of
    lines and paragraphs, and what is no character (yet).
    """
    if text.isprintable():
        return text
    return "".join(one if one == "\n" or _is_shown(one) else _escape(one) for one in text)


def one_line(text: str) -> str:
    """`text` with line breaks escaped, too: for what comes from elsewhere and must not look like lines of ours."""
    return escaped(text).replace("\n", _escape("\n"))


def is_shown_as_it_is(text: str) -> bool:
    """Whether standard output takes `text` without an escape."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return escaped(text) == text


class _Unwritable(Exception):
    """Standard output does not take what was to be listed; the message says why."""

    def __init__(self, failed: OSError) -> None:
        super().__init__(failed.strerror)
        self.is_cut = failed.errno == errno.EPIPE


class _Stream(io.TextIOWrapper):
    """A stream that shows what a terminal would obey."""

    def write(self, text: str) -> int:
        return super().write(escaped(text))


class _Raw(io.RawIOBase):
    """Writes all of everything to `raw`, unbuffered, and hands to `lost` what that does not take."""

    def __init__(self, raw: Any, lost: _Lost) -> None:
        self.raw, self._lost = raw, lost

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.raw.fileno())

    def isatty(self) -> bool:
        return bool(self.raw.isatty())

    def write(self, data: Any) -> int:
        left = bytes(data)
        try:
            while left:
                written = self.raw.write(left)
                if written is None:  # others made it non-blocking, and it is full for now
                    select.select([], [self.raw], [])
                left = left[written or 0 :]
        except OSError as failed:
            self._lost(failed, left)
        return len(data)


class _Elsewhere:
    """Says on standard error what standard output does not take, unless there only is no reader."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, failed: OSError, left: bytes) -> None:
        if failed.errno == errno.EPIPE:
            return
        if not self._said:
            self._said = True
            print(f"Standard output cannot be written: {failed.strerror}. This was to be there:", file=sys.stderr)
        print(left.decode(sys.stdout.encoding, "replace"), end="", file=sys.stderr)


def _end(failed: OSError, _left: bytes) -> None:
    raise _Unwritable(failed) from failed


def _ignore(_failed: OSError, _left: bytes) -> None:
    pass


@contextmanager
def _replaced(name: Literal["stdout", "stderr"], lost: _Lost) -> Iterator[None]:
    """Have `sys.stdout` or `sys.stderr` escape, and tell `lost` what cannot be written."""
    before = getattr(sys, name)
    buffer = getattr(before, "buffer", None)
    if buffer is None:  # a text in memory takes everything
        yield
        return
    before.flush()
    raw: Any = _Raw(getattr(buffer, "raw", buffer), lost)
    stream = _Stream(raw, before.encoding, errors=_ESCAPING, line_buffering=True)
    setattr(sys, name, stream)
    try:
        yield
        stream.flush()
    finally:
        with suppress(_Unwritable):
            stream.flush()
        setattr(sys, name, before)


def _open_what_is_closed() -> None:
    """Let nothing else become standard input, output or error, as the next opened file would."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _without_reader())
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def _without_reader() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def _is_shown(character: str) -> bool:
    # Python does not call other spaces than ASCII's printable.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(characters: str) -> str:
    units = characters.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _escape_unencodable(wrong: UnicodeError) -> tuple[str, int]:
    assert isinstance(wrong, UnicodeEncodeError)  # noqa: S101
    return _escape(wrong.object[wrong.start : wrong.end]), wrong.end


_ESCAPING = "usage-metering.escape"
codecs.register_error(_ESCAPING, _escape_unencodable)
