"""A TCP proxy on loopback that injects faults between a device and its broker."""

import contextlib
import selectors
import socket
import struct
import threading
import time

PASS, BLACKHOLE, REFUSE, DRIP, CORRUPT = "pass", "blackhole", "refuse", "drip", "corrupt"
_LINGER_RST = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards connections to 127.0.0.1:`target`.

    Attributes:
        mode: The current fault. It may be changed at any time:
            `blackhole` discards all bytes in both directions;
            `refuse` resets new connections;
            `drip` passes one byte every 5 ms;
            `corrupt` damages every 200th byte.
        accepted: Number of connections accepted so far.
        discarded: Number of bytes that `blackhole` has discarded.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.mode = PASS
        self.accepted = self.discarded = 0
        self._passed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.05):
                # ValueError, KeyError: an earlier event in the same round has closed this socket.
                with self._lock, contextlib.suppress(OSError, KeyError, ValueError):
                    if key.data is None:
                        self._accept()
                    else:
                        self._forward(key.fileobj, key.data)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        self.accepted += 1
        if self.mode == REFUSE:
            self._reset(client)
            return
        upstream = socket.create_connection(("127.0.0.1", self._target))
        self._selector.register(client, selectors.EVENT_READ, upstream)
        self._selector.register(upstream, selectors.EVENT_READ, client)

    def _forward(self, source, sink) -> None:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        if not data:
            for sock in (source, sink):
                self._selector.unregister(sock)
                sock.close()
        elif self.mode in (PASS, REFUSE):
            sink.sendall(data)
        elif self.mode == DRIP:
            for byte in data:
                sink.sendall(bytes([byte]))
                time.sleep(0.005)
        elif self.mode == BLACKHOLE:
            self.discarded += len(data)
        elif self.mode == CORRUPT:
            damaged = bytearray(data)
            for i in range(len(data)):
                self._passed += 1
                if self._passed % 200 == 0:
                    damaged[i] ^= 0x10
            sink.sendall(damaged)

    @staticmethod
    def _reset(sock) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
        sock.close()

    def cut(self) -> None:
        """Reset every open connection."""
        with self._lock:
            for key in list(self._selector.get_map().values()):
                if key.data is not None:
                    self._selector.unregister(key.fileobj)
                    self._reset(key.fileobj)

    def close(self) -> None:
        """Stop and close everything."""
        self.cut()
        self._stop = True
        self._thread.join()
        self._server.close()
        self._selector.close()
