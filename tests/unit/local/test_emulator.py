import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import emulator
from local.errors import StartFailed


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])  # noqa: S104 - as others do
def busy(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A port that another program listens on, on loopback only or on every address."""
    with socket.socket() as listening:
        listening.bind((request.param, 0))
        listening.listen()
        yield listening


def _port(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def test_a_busy_port_is_reported_with_its_remedy(busy: socket.socket) -> None:
    with pytest.raises(StartFailed) as failed:
        emulator.check_port_is_free(_port(busy))

    assert str(failed.value) == (
        f"port {_port(busy)} is in use by another program: free this port, or choose another port with "
        "`make run PORT=…`."
    )


def test_a_free_port_is_free() -> None:
    emulator.check_port_is_free(emulator.free_port())


def test_a_free_port_is_none_that_outgoing_connections_get() -> None:
    # Linux gives outgoing connections the ports from 32,768 on. Other systems start higher.
    assert max(emulator.free_port() for _ in range(50)) < 32_768


def test_a_port_whose_last_server_has_just_ended_is_free() -> None:
    with socket.socket() as listening:
        # Every server sets this option, because it could not restart at once without it.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = _port(listening)
        with socket.create_connection(("127.0.0.1", port)):
            # The end that closes first keeps the port busy for a while.
            listening.accept()[0].close()

    emulator.check_port_is_free(port)


def test_a_port_stays_the_same_unless_somebody_else_has_it(busy: socket.socket) -> None:
    free = emulator.free_port()
    assert emulator.port_near(free) == free
    for taken in (_port(busy), 65_536):
        other = emulator.port_near(taken)
        assert other != taken
        emulator.check_port_is_free(other)


def test_the_keys_of_two_runs_differ() -> None:
    one, other = emulator.new_keys(), emulator.new_keys()
    assert one.access_key_id != other.access_key_id
    assert one.secret != other.secret


def test_a_listening_server_is_detected(busy: socket.socket) -> None:
    endpoint = f"http://127.0.0.1:{_port(busy)}"
    assert emulator.is_listening(endpoint)

    busy.close()

    assert not emulator.is_listening(endpoint)


def test_an_emulator_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    with pytest.raises(StartFailed, match="exit code 3"):
        emulator.wait_until_ready(
            ended, f"http://127.0.0.1:{emulator.free_port()}", emulator.new_keys(), tmp_path / "log"
        )
