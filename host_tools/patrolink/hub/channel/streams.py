"""Channel between two processes: lines of JSON over a Unix domain socket.

The voice listens and the service connects, again and again, because the voice is the half that lives longer. The socket
is in a folder that only the hub's user may enter. A line longer than MAX_LINE_BYTES, one that is no message, or a
reader that lets MAX_WAITING_BYTES wait ends the connection.
"""

import asyncio
import contextlib
from pathlib import Path

from patrolink.hub.channel.ends import Handler
from patrolink.hub.channel.messages import Message, decode, encode
from patrolink.hub.infra.metrics import Metrics

MAX_LINE_BYTES = 1 << 20
MAX_WAITING_BYTES = 16 << 20
_RETRY_S = 0.05


class _StreamEnd:
    """The connection of one end."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path, self._metrics = path, metrics
        self._writer: asyncio.StreamWriter | None = None

    def send(self, message: Message) -> None:
        """Send a message; see Channel."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self._metrics.counts["channel_overflows"] += 1
            self._abort()
            return
        writer.write(encode(message))

    async def drain(self) -> None:
        """Wait until there is space for more messages; see Channel."""
        await asyncio.sleep(0)
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def _abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        """Handle one connection until it ends."""
        self._writer = writer
        handler.connected()
        try:
            while line := await reader.readline():
                handler.received(decode(line))
                await asyncio.sleep(0)  # voice, console and broker have their turn after each message
        except ConnectionError:
            pass
        except ValueError:  # a line that is too long, or no message
            self._metrics.counts["channel_errors"] += 1
        finally:
            self._writer = None
            writer.transport.abort()
            handler.disconnected()


class ListeningEnd(_StreamEnd):
    """The end of the voice. A Channel.

    Args:
        path: The socket.
    """

    def __init__(self, path: Path, metrics: Metrics) -> None:
        super().__init__(path, metrics)
        self._task: asyncio.Task[None] | None = None

    async def run(self, handler: Handler) -> None:
        """Serve the newest connection until cancelled; see Channel."""

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._task = asyncio.ensure_future(self._replace(self._task, reader, writer, handler))

        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(serve, self._path, limit=MAX_LINE_BYTES)
        self._path.chmod(0o600)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            self._abort()
            if self._task is not None:
                await asyncio.wait([self._task])
            self._path.unlink(missing_ok=True)

    async def _replace(
        self,
        previous: asyncio.Task[None] | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
    ) -> None:
        if previous is not None:  # of a service that has died
            self._abort()
            await asyncio.wait([previous])
        await self._serve(reader, writer, handler)


class ConnectingEnd(_StreamEnd):
    """The end of the service. A Channel.

    Args:
        path: The socket.
    """

    async def run(self, handler: Handler) -> None:
        """Connect, and connect again after the connection has ended, until cancelled; see Channel."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE_BYTES)
            except OSError:  # the voice does not listen yet
                await asyncio.sleep(_RETRY_S)
                continue
            await self._serve(reader, writer, handler)
