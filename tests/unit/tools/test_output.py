import os
import sys
import threading
import unicodedata
from pathlib import Path

import pytest

from tools import output

_OBEYED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_only_characters_that_control_a_terminal_are_escaped() -> None:
    for number in range(0x110000):
        character = chr(number)
        is_escaped = character != "\n" and unicodedata.category(character) in _OBEYED
        assert (output.escaped(character) != character) == is_escaped, f"U+{number:04X}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 語\u3000\xa0\n", "é 語\u3000\xa0\n"),
        ("\x85\u2028\u2029", "\\u0085\\u2028\\u2029"),
        ("\u202e\u2066\u200f\u061c", "\\u202e\\u2066\\u200f\\u061c"),
        ("\x1b[0m\r\t", "\\u001b[0m\\u000d\\u0009"),
        ("\udcff\U000e0001", "\\udcff\\udb40\\udc01"),
    ],
)
def test_an_escape_is_that_of_json(text: str, shown: str) -> None:
    assert output.escaped(text) == shown
    assert output.one_line(text) == shown.replace("\n", "\\u000a")


def test_work_is_done_though_its_output_has_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done: list[str] = []

    @output.command("test", works=True)
    def work() -> int:
        sys.stdout.write("one\n")
        sys.stdout.write("two\n")
        done.append("all")
        return 5

    with os.fdopen(writing, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        assert (work(), done) == (5, ["all"])


def test_a_pipe_that_is_full_for_now_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "x" * 1_000_000
    read: list[str] = []

    @output.command("test")
    def listing() -> int:
        sys.stdout.write(f"{text}\n")
        return 0

    def drain() -> None:
        with os.fdopen(reading) as pipe:
            read.append(pipe.read())

    draining = threading.Thread(target=drain)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        draining.start()
        assert listing() == 0
    draining.join()
    assert read == [f"{text}\n"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_output_that_cannot_be_written_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @output.command("test", works=True)
    def work() -> int:
        sys.stdout.write("one\n")
        sys.stdout.write("two\n")
        return 0

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert work() == 0
    assert capsys.readouterr().err == (
        "Cannot write to standard output (No space left on device). The lost output:\none\ntwo\n"
    )
