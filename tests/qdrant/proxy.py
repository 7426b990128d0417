"""A TCP proxy that spoils what goes through it, as networks and dying servers do."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.integration.server import free_port

_CHUNK = 4_096
_SECONDS = 20


@dataclass(slots=True, eq=False)
class _Connection:
    """One client's connection, and the one to the server behind it."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    silent: bool = False  # for good: what hung once stays so, whatever becomes of the network

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Stands before a port of this machine; runs in a thread of its own until it is stopped.

    Args:
        target_port: The port of the server behind it.

    Attributes:
        port: Its own.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._delay_seconds = 0.0
        self._hangs = False
        self._answer_bytes: int | None = None  # that still come through before it goes silent; None for all
        self._corrupt_every = 0
        self._replaced: tuple[bytes, bytes] | None = None
        self._seen = 0

    def start(self) -> "Proxy":
        """Begins to listen."""
        self._thread.start()
        self._run(self._open())
        return self

    def stop(self) -> None:
        """Ends all connections, and the thread."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Every piece of an answer comes so much later; what is late already stays so."""
        self._set(lambda: setattr(self, "_delay_seconds", seconds))

    def cut(self) -> None:
        """Breaks all connections; new ones are let through."""
        self._set(self._cut)

    def hang(self) -> None:
        """Goes silent: connections, new ones too, stay open, and nothing comes through them any more."""
        self._set(self._hang)

    def hang_after(self, answer_bytes: int) -> None:
        """Goes silent when so many more bytes of answers have come through: half-way through one of them."""
        self._set(lambda: setattr(self, "_answer_bytes", answer_bytes))

    def corrupt(self, every: int) -> None:
        """Of so many bytes of answers one arrives as another."""
        self._set(lambda: setattr(self, "_corrupt_every", every))

    def replace_once(self, old: bytes, new: bytes) -> None:
        """The first time that some bytes are in an answer, as many others arrive instead."""
        self._set(lambda: setattr(self, "_replaced", (old, new)))

    def refuse(self) -> None:
        """Nobody listens any more, and all connections break."""
        self._run(self._close())

    def restore(self) -> None:
        """All is well for new connections; those that hung hang on."""
        self._run(self._restore())

    def _set(self, change: Callable[[], None]) -> None:
        async def changed() -> None:
            change()

        self._run(changed())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._close()
        while self._connections:  # noqa: ASYNC110 - they come to their ends by themselves
            await asyncio.sleep(0.01)

    async def _restore(self) -> None:
        self._delay_seconds, self._hangs, self._answer_bytes, self._corrupt_every = 0.0, False, None, 0
        if self._server is None:
            await self._open()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    def _hang(self) -> None:
        self._hangs = True
        for connection in self._connections:
            connection.silent = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection([writer], silent=self._hangs)
        self._connections.add(connection)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            connection.writers.append(server_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, reader, server_writer, self._as_it_is))
                both.create_task(self._pump(connection, server_reader, writer, self._spoiled))
        except* OSError:
            pass  # one side is gone, and so is the other now
        finally:
            connection.cut()
            self._connections.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        change: Callable[[_Connection, bytes], bytes],
    ) -> None:
        # A piece that is late holds up none that is due as early: it is far to the server, not a narrow way.
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def receive() -> None:
            while chunk := await reader.read(_CHUNK):
                pieces.put_nowait((self._loop.time() + (self._delay_seconds if change == self._spoiled else 0), chunk))
            pieces.put_nowait((0.0, b""))

        async def deliver() -> None:
            while True:
                due, chunk = await pieces.get()
                if not chunk:
                    raise ConnectionResetError
                if due > self._loop.time():
                    await asyncio.sleep(due - self._loop.time())
                if not connection.silent:
                    writer.write(change(connection, chunk))
                    await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            group.create_task(deliver())

    def _as_it_is(self, connection: _Connection, chunk: bytes) -> bytes:
        del connection
        return chunk

    def _spoiled(self, connection: _Connection, chunk: bytes) -> bytes:
        if self._answer_bytes is not None:
            chunk = chunk[: self._answer_bytes]
            self._answer_bytes -= len(chunk)
            if not self._answer_bytes:
                self._hang()
                connection.silent = True
        if self._replaced is not None and self._replaced[0] in chunk:
            chunk = chunk.replace(*self._replaced, 1)
            self._replaced = None
        if self._corrupt_every:
            spoiled = bytearray(chunk)
            for place in range(len(chunk)):
                self._seen += 1
                if self._seen % self._corrupt_every == 0:
                    spoiled[place] ^= 1 + self._seen % 255
            chunk = bytes(spoiled)
        return chunk
