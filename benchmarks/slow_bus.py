"""An event bus that accepts everything and answers each call after a fixed time, for any number of concurrent calls.

It runs in its own process, so that it does not compete with the measured code for one interpreter.
"""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

# The duration of one PutEvents.
CALL_S = 0.010


class Bus:
    """The running bus: its URL, and the calls that it received."""

    def __init__(self, port: int, pipe: "Connection[None, tuple[int, int]]") -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._pipe = pipe

    def taken(self) -> tuple[int, int]:
        """Return the entries received since the last call of this method, and the maximum of concurrent calls."""
        self._pipe.send(None)
        return self._pipe.recv()


@contextmanager
def serving() -> Iterator[Bus]:
    """Run the bus on loopback until the end of the block."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Bus(ours.recv(), ours)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: "Connection[int | tuple[int, int], None]") -> None:
    asyncio.run(_Serving(pipe).serve())


class _Serving:
    def __init__(self, pipe: "Connection[int | tuple[int, int], None]") -> None:
        self._pipe = pipe
        self._entries = self._under_way = self._most = 0

    async def serve(self) -> None:
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._report)
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    def _report(self) -> None:
        self._pipe.recv()
        self._pipe.send((self._entries, self._most))
        self._entries = self._most = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
            length = next(int(value) for name, _, value in fields if name == b"content-length")
            entries = len(json.loads(await reader.readexactly(length))["Entries"])
            self._entries += entries
            self._under_way += 1
            self._most = max(self._most, self._under_way)
            await asyncio.sleep(CALL_S)
            self._under_way -= 1
            taken = [{"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"}] * entries
            body = json.dumps({"FailedEntryCount": 0, "Entries": taken}).encode()
            headers = b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d" % len(body)
            writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (headers, body))
