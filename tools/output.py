"""The output of a command, and its behavior when the output cannot be written.

    standard output              a listing                    a command that works
    closed or without a reader   ends with code 141, silent   continues, prints no more
    not writable, such as full   ends with code 1 and why     continues, prints the rest to standard error

Messages that standard error cannot take are lost. A closed standard input counts as empty. JSON escapes replace control
characters and characters outside the terminal's encoding.
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

# 128 + SIGPIPE, the code that a shell reports for a program that wrote to a pipe without a reader.
CUT = 141


def command(name: str, *, works: bool = False) -> Callable[[Callable[_P, int]], Callable[_P, int]]:
    """Decorate the main function of the command `name`, which prints and returns an exit code.

    A command that `works` continues if its output cannot be written. Other commands are listings, and end.
    """

    def decorate(main: Callable[_P, int]) -> Callable[_P, int]:
        @functools.wraps(main)
        def run(*arguments: _P.args, **options: _P.kwargs) -> int:
            _open_what_is_closed()
            # Python 3.14 colors the help with control characters, which this module would escape.
            os.environ["PYTHON_COLORS"] = "0"
            with _replaced("stderr", _ignore), _replaced("stdout", _end):
                try:
                    with working() if works else nullcontext():
                        return main(*arguments, **options)
                except _Unwritable as unwritable:
                    if unwritable.is_cut:
                        return CUT
                    print(f"{name}: cannot write to standard output ({unwritable}).", file=sys.stderr)
                    return 1

        return run

    return decorate


@contextmanager
def working() -> Iterator[None]:
    """Within this context, a failed write to standard output does not stop the command."""
    with _replaced("stdout", _Elsewhere()):
        yield


def escaped(text: str) -> str:
    """Escape every character of `text` that a terminal would interpret, except line breaks.

    These are control and format characters, line and paragraph separators, and code points without a character. Some
    format characters change the text direction.
    """
    if text.isprintable():
        return text
    return "".join(one if one == "\n" or _is_shown(one) else _escape(one) for one in text)


def one_line(text: str) -> str:
    """Escape line breaks as well, so that foreign text cannot look like a line of this command."""
    return escaped(text).replace("\n", _escape("\n"))


def is_shown_as_it_is(text: str) -> bool:
    """Whether standard output shows `text` without an escape."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return escaped(text) == text


class _Unwritable(Exception):
    """Standard output cannot be written; the message says why."""

    def __init__(self, failed: OSError) -> None:
        super().__init__(failed.strerror)
        self.is_cut = failed.errno == errno.EPIPE


class _Stream(io.TextIOWrapper):
    """A stream that escapes the characters that a terminal would interpret."""

    def write(self, text: str) -> int:
        return super().write(escaped(text))


class _Raw(io.RawIOBase):
    """Writes everything to `raw` without a buffer, and passes the bytes that cannot be written to `lost`."""

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
                if written is None:  # another process made it non-blocking, and it is full
                    select.select([], [self.raw], [])
                left = left[written or 0 :]
        except OSError as failed:
            self._lost(failed, left)
        return len(data)


class _Elsewhere:
    """Prints lost output to standard error, unless the reader closed the pipe."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, failed: OSError, left: bytes) -> None:
        if failed.errno == errno.EPIPE:
            return
        if not self._said:
            self._said = True
            print(f"Cannot write to standard output ({failed.strerror}). The lost output:", file=sys.stderr)
        print(left.decode(sys.stdout.encoding, "replace"), end="", file=sys.stderr)


def _end(failed: OSError, _left: bytes) -> None:
    raise _Unwritable(failed) from failed


def _ignore(_failed: OSError, _left: bytes) -> None:
    pass


@contextmanager
def _replaced(name: Literal["stdout", "stderr"], lost: _Lost) -> Iterator[None]:
    """Replace `sys.stdout` or `sys.stderr` by a stream that escapes, and that passes lost output to `lost`."""
    before = getattr(sys, name)
    buffer = getattr(before, "buffer", None)
    if buffer is None:  # a text in memory accepts everything
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
    """Open the closed standard streams, because the next opened file would take their descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _without_reader())
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - open until the process ends
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def _without_reader() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def _is_shown(character: str) -> bool:
    # Python treats only the ASCII space as printable.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(characters: str) -> str:
    units = characters.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _escape_unencodable(wrong: UnicodeError) -> tuple[str, int]:
    assert isinstance(wrong, UnicodeEncodeError)  # noqa: S101
    return _escape(wrong.object[wrong.start : wrong.end]), wrong.end


_ESCAPING = "usage-metering.escape"
codecs.register_error(_ESCAPING, _escape_unencodable)
