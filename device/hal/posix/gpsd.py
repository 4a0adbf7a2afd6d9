"""The receiver's sentences from gpsd, which shares a receiver among programs."""

import socket

from hal.posix.platform import Tty

_SCHEME = "gpsd://"
_PORT = 2947
_WATCH = b'?WATCH={"enable":true,"nmea":true};\n'
_ASK = b"?VERSION;\n"
_SILENT_MS = 5000  # then gpsd is asked whether it is there, and has as long again to answer
_EINPROGRESS = 115


class Gpsd(Tty):
    """The line gpsd://host[:port], with the contract of hal.posix.platform.Tty.

    gpsd greets whoever connects, and is then asked for NMEA. What it says of its own is JSON, which whoever reads NMEA
    skips. A host that is a name is looked up by the platform's resolver, which may take its time.
    """

    def _dial(self):
        """Begin to connect; a refusal is met when the stream is read."""
        host, _, port = self._path[len(_SCHEME) :].partition(":")
        address = socket.getaddrinfo(host, int(port or _PORT), 0, socket.SOCK_STREAM)[0]
        s = socket.socket(address[0])
        s.setblocking(False)
        try:
            s.connect(address[-1])
        except OSError as e:
            if e.errno != _EINPROGRESS:
                s.close()
                raise
        self._greeted = self._asked = False
        self._heard_ms = self._now_ms()
        return s

    def readinto(self, buf):
        """Return how many bytes were put into `buf`; 0 when none are there or gpsd is gone."""
        n = super().readinto(buf)
        if not n and self._file is not None and self._now_ms() - self._heard_ms > _SILENT_MS:
            self._ask()
        return n

    def _ask(self):
        """Silence may be the receiver's, or gpsd's host may be gone without a word: a question tells."""
        self._heard_ms = self._now_ms()
        try:
            if self._asked:
                raise OSError
            self._asked = True
            self._file.send(_ASK)
        except OSError:
            self._gone()

    def _take(self, buf):
        data = self._file.recv(len(buf))  # MicroPython's sockets have readinto and no recv_into
        buf[: len(data)] = data
        self._heard_ms = self._now_ms()
        self._asked = False
        if data and not self._greeted:
            self._greeted = True
            self._file.send(_WATCH)
            self._log("%s: %s answers" % (self._name, self._path))
        return len(data)

    def write(self, buf):
        """gpsd takes nothing for the receiver."""
