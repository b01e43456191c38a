import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local import __main__ as runner
from local.errors import StartFailed
from ops.local_stack import Stack
from tests.unit.ops.test_local_stack import STACK


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_what_is_no_port_is_a_wrong_command_line(port: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    # In double quotes the token's command is run.
    command = runner.curl_command(STACK)

    assert '"Authorization: Bearer $(' in command
    assert command.count("$") == 1


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
