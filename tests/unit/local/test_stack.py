import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local import emulator, lock, stack
from local.errors import StartFailed
from ops import local_stack
from tests.testing.local_stack import STACK


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "LOCK_WAIT_S", 0.1)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def _say_nothing(_: str) -> None:
    pass


def test_a_second_run_names_the_first(tmp_path: Path) -> None:
    local_json = tmp_path / "local.json"
    with lock.held(local_stack.lock_file(local_json), 0, lambda: None):
        local_stack.write(STACK, local_json)

        with pytest.raises(StartFailed) as failed, stack.running(tmp_path, emulator.free_port(), _say_nothing):
            pass

        assert str(failed.value) == f"the stack is already running as process {STACK.pid}: {STACK.url}"
        assert local_stack.read(local_json) == STACK


def test_a_second_run_names_the_first_that_is_not_ready_yet(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        lock.held(tmp_path / "local.lock", 0, lambda: None),
        pytest.raises(StartFailed, match=f"process {os.getpid()} is starting or stopping"),
        stack.running(tmp_path, emulator.free_port(), said.append),
    ):
        pass

    assert len(said) == 1


def test_a_busy_port_fails_before_anything_is_touched(tmp_path: Path, busy_port: int) -> None:
    local_json = tmp_path / "local.json"
    local_stack.write(replace(STACK, pid=2**22 + 1), local_json)

    with pytest.raises(StartFailed, match=f"port {busy_port}"), stack.running(tmp_path, busy_port, _say_nothing):
        pass

    assert {path.name for path in tmp_path.iterdir()} == {"local.json", "local.lock"}


def test_a_taken_port_of_the_page_is_named_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise StartFailed("no functions")

    monkeypatch.setattr("local.deployment.build_bundle", fail)
    said: list[str] = []
    port = emulator.free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()

        with pytest.raises(StartFailed, match="no functions"), stack.running(tmp_path, port, said.append):
            pass

    assert [text for text in said if text.startswith(f"port {port + 1} is in use: ")]


def test_a_slow_end_says_what_it_does_and_a_fast_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "SILENCE_S", 0.01)
    is_said = threading.Event()
    with stack.saying_if_slow(lambda _: is_said.set(), "removing …"):
        assert is_said.wait(10)
    monkeypatch.setattr(stack, "SILENCE_S", 60)
    said: list[str] = []
    with stack.saying_if_slow(said.append, "removing …"):
        pass
    assert said == []


def test_a_start_that_fails_leaves_nothing_but_its_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise StartFailed("no functions")

    monkeypatch.setattr("local.deployment.build_bundle", fail)
    (tmp_path / "local" / "tmp" / "of-a-killed-run").mkdir(parents=True)
    port = emulator.free_port()

    with pytest.raises(StartFailed, match="no functions"), stack.running(tmp_path, port, _say_nothing):
        pass

    assert {path.name for path in tmp_path.rglob("*")} == {"local.lock", "local", "emulator.log"}
    emulator.check_port_is_free(port)
    with lock.held(tmp_path / "local.lock", 0, lambda: None):  # the emulator had this lock, too
        pass
