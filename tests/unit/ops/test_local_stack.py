import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local import lock
from ops import local_stack
from ops.errors import StackNotRunning
from tests.testing.local_stack import STACK


@pytest.fixture
def local_json(tmp_path: Path) -> Iterator[Path]:
    """The file in which a stack publishes its addresses, while its lock is held."""
    path = tmp_path / "local.json"
    with lock.held(local_stack.lock_file(path), wait_s=0, say_waiting=lambda: None):
        yield path


def test_the_written_file_is_read_back(local_json: Path) -> None:
    local_stack.write(STACK, local_json)

    assert local_stack.read(local_json) == STACK


def test_the_file_has_exactly_the_documented_keys(local_json: Path) -> None:
    local_stack.write(STACK, local_json)

    assert set(json.loads(local_json.read_text())) == {
        "url",
        "endpoint",
        "region",
        "accessKeyId",
        "secretAccessKey",
        "table",
        "bus",
        "queueUrl",
        "issuer",
        "tokenEndpoint",
        "pid",
    }


def test_nobody_but_the_user_can_read_the_file(local_json: Path) -> None:
    local_json.touch(0o644)

    local_stack.write(STACK, local_json)

    assert local_json.stat().st_mode & 0o777 == 0o600


def test_nothing_unfinished_stays_beside_the_file(local_json: Path) -> None:
    local_stack.write(STACK, local_json)

    assert {path.name for path in local_json.parent.iterdir()} == {"local.json", "local.lock"}


def test_without_a_file_no_stack_is_running(tmp_path: Path) -> None:
    with pytest.raises(StackNotRunning, match="make run"):
        local_stack.read(tmp_path / "local.json")


def test_a_file_left_by_a_dead_process_is_no_running_stack(local_json: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    local_stack.write(replace(STACK, pid=gone.pid), local_json)

    with pytest.raises(StackNotRunning, match=f"process {gone.pid}.* has ended"):
        local_stack.read(local_json)


def test_a_file_whose_lock_nobody_holds_is_no_running_stack(tmp_path: Path) -> None:
    # This happens after a kill -9, if the process is not reaped yet or another process has its id.
    local_json = tmp_path / "local.json"
    local_stack.write(STACK, local_json)
    local_stack.lock_file(local_json).touch()

    with pytest.raises(StackNotRunning, match="has ended"):
        local_stack.read(local_json)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"url": 1}'])
def test_a_file_of_another_program_is_recognized(local_json: Path, content: str) -> None:
    local_json.write_text(content)

    with pytest.raises(StackNotRunning, match="was not written by a local stack"):
        local_stack.read(local_json)


def test_another_stack_in_its_place_is_not_the_same_one_running(local_json: Path) -> None:
    local_stack.write(replace(STACK, issuer="http://127.0.0.1:5000"), local_json)

    assert not local_stack.is_running(STACK, local_json)


def test_asking_whether_it_runs_does_not_take_its_lock(local_json: Path) -> None:
    local_stack.write(STACK, local_json)
    local_stack.read(local_json)

    assert local_stack.is_running(STACK, local_json)


def test_the_stack_of_this_checkout_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METERING_LOCAL", raising=False)
    assert local_stack.default_path() == local_stack.ROOT / "build" / "local.json"

    monkeypatch.setenv("METERING_LOCAL", "/elsewhere/local.json")
    assert local_stack.default_path() == Path("/elsewhere/local.json")
