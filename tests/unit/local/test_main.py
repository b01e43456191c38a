import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from local import __main__ as runner
from local.errors import StartFailed
from ops.local_stack import Stack
from tests.testing.local_stack import STACK


@pytest.mark.parametrize(
    "port", ["0", "65536", "-1", "http", "04566", "+4566", "4_566", " 4566", "\u0664\u0665\u0666\u0666"]
)
def test_an_invalid_port_is_a_command_line_error(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        runner.main(["--port", port])

    assert left.value.code == 2
    assert "port" in capsys.readouterr().err


def test_the_call_to_paste_survives_a_shell() -> None:
    words = shlex.split(runner.curl_command(STACK))

    assert words[0] == "curl"
    assert f"{STACK.url}/saas/billing/usage/record/v1.0.0" in words
    assert "Authorization: Bearer $(.venv/bin/metering token --organization demo-org)" in words
    assert words[-1] == '{"feature":"api_calls","quantity":1,"idempotencyKey":"abc-123"}'


def test_only_the_token_of_the_call_is_filled_in_by_the_shell() -> None:
    # Inside double quotes the shell runs the command that prints the token.
    command = runner.curl_command(STACK)

    assert '"Authorization: Bearer $(' in command
    assert command.count("$") == 1


def test_a_stack_runs_on_when_nobody_reads_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def running(_directory: Path, _port: int, _say: Callable[[str], None]) -> Iterator[Stack]:
        yield replace(STACK, endpoint="http://127.0.0.1:9")

    monkeypatch.setattr("local.stack.running", running)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "events.jsonl").write_text("{}\n")
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        # No emulator listens at this endpoint, so it counts as ended once the events are printed.
        runner.main(["--directory", str(tmp_path)])

    started, ended = capsys.readouterr().err.splitlines()
    assert "printing events" in started
    assert ended.startswith("local: the emulator stopped unexpectedly")


def test_a_start_that_fails_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def running(_directory: Path, port: int, _say: Callable[[str], None]) -> Iterator[Stack]:
        raise StartFailed(f"port {port} is in use.")
        yield

    monkeypatch.setattr("local.stack.running", running)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("MAKELEVEL", raising=False)

    assert runner.main(["--port", "4567"]) == 1

    assert capsys.readouterr() == ("", "local: port 4567 is in use.\n")
