import threading
import time
from pathlib import Path

from ops import tail


def _never() -> bool:
    return False


def _at_once() -> bool:
    return True


def test_existing_lines_are_read_from_the_given_position(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("one\ntwo\nthree\n")

    assert list(tail.follow(file, len("one\n"), _at_once)) == ["two", "three"]


def test_lines_come_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("one\n")
    lines = tail.follow(file, 0, _never, pause_s=0.001)
    assert next(lines) == "one"

    with file.open("a") as appended:
        appended.write("two\n")

    assert next(lines) == "two"


def test_half_a_line_is_not_shown_before_its_end_is_written(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"a": "\xc3')
    lines = tail.follow(file, 0, _never, pause_s=0.001)

    def finish() -> None:
        time.sleep(0.05)
        with file.open("ab") as appended:
            appended.write(b'\xa4"}\n')

    writer = threading.Thread(target=finish)
    writer.start()

    assert next(lines) == '{"a": "ä"}'
    writer.join()


def test_half_a_line_is_left_out_when_it_is_over(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("one\nhal")

    assert list(tail.follow(file, 0, _at_once)) == ["one"]


def test_the_end_is_behind_the_last_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("one\nhal")

    assert tail.end_of(file) == len("one\n")


def test_a_line_that_was_half_written_at_the_start_is_shown_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("one\nhal")
    position = tail.end_of(file)

    with file.open("a") as appended:
        appended.write("f\n")

    assert list(tail.follow(file, position, _at_once)) == ["half"]


def test_a_file_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert tail.end_of(file) == 0

    def create() -> None:
        time.sleep(0.05)
        file.write_text("one\n")

    writer = threading.Thread(target=create)
    writer.start()

    assert next(tail.follow(file, 0, _never, pause_s=0.001)) == "one"
    writer.join()


def test_waiting_for_a_file_that_never_appears_ends(tmp_path: Path) -> None:
    assert list(tail.follow(tmp_path / "events.jsonl", 0, _at_once)) == []


def test_lines_written_just_before_the_end_are_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("")

    def write_last_words() -> bool:
        file.write_text("last\n")
        return True

    assert list(tail.follow(file, 0, write_last_words)) == ["last"]
