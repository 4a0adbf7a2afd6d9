"""The link between a device and its broker on loopback: it can be taken away and brought back."""

import contextlib
import selectors
import socket
import threading

_CHUNK = 65536
_LOOK_S = 0.2
_HOST = "127.0.0.1"


class LinkGate:
    """Forwards connections to a port on loopback, in a thread, until `close`.

    Args:
        target: Port of the broker.

    Attributes:
        port: Port on loopback for the device.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server((_HOST, 0))
        self.port: int = self._server.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._up = True
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="link")
        self._thread.start()

    def switch(self, up: bool) -> None:
        """Take the link away, with all connections, or bring it back."""
        with self._lock:
            self._up = up
            if not up:
                for sock in list(self._peers):
                    self._drop(sock)

    def _run(self) -> None:
        while not self._closed:
            ready = self._selector.select(_LOOK_S)
            with self._lock:
                for key, _ in ready:
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock is self._server:
                        self._accept()
                    elif sock in self._peers:  # else it was closed in this round
                        self._forward(sock)

    def _accept(self) -> None:
        device, _ = self._server.accept()
        try:
            if not self._up:
                raise OSError
            broker = socket.create_connection((_HOST, self._target))
        except OSError:
            device.close()
            return
        for sock, peer in ((device, broker), (broker, device)):
            self._peers[sock] = peer
            self._selector.register(sock, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
            if not data:
                raise OSError
            self._peers[sock].sendall(data)
        except OSError:
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        """Close a connection, both ends."""
        for end in (sock, self._peers.get(sock)):
            if end is not None and self._peers.pop(end, None) is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()

    def close(self) -> None:
        """Close everything."""
        self.switch(False)
        self._closed = True
        self._thread.join()
        self._server.close()
        self._selector.close()
