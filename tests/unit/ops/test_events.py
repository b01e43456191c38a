import os
from pathlib import Path

import pytest

from ops import events


def test_showing_stops_after_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert events.show(iter(["a", "b", "c"]), 2)

    assert capsys.readouterr().out == "a\nb\n"


def test_fewer_than_the_count_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert not events.show(iter(["a"]), 2)

    assert capsys.readouterr().out == "a\n"


def test_no_event_is_waited_for_once_there_are_enough() -> None:
    lines = iter(["a", "b"])
    events.show(lines, 1)

    assert next(lines) == "b"


def test_a_pipe_that_nobody_reads_any_more_is_noticed() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output:
        assert not events.is_unread(output)

        os.close(reading)

        assert events.is_unread(output)


def test_a_file_never_counts_as_unread(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        assert not events.is_unread(output)
