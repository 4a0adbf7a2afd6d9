"""NMEA sentences from gpsd, which shares one receiver among programs."""

import socket

from hal.posix.serial_line import SerialLine

_SCHEME = "gpsd://"
_PORT = 2947
_WATCH = b'?WATCH={"enable":true,"nmea":true};\n'
_VERSION_QUERY = b"?VERSION;\n"
_SILENCE_MS = 5000  # then gpsd is queried, and the connection closed after as long without an answer
_EINPROGRESS = 115


class Gpsd(SerialLine):
    """The receiver at gpsd://host[:port], with the interface of hal.posix.serial_line.SerialLine.

    gpsd sends its version to each new client and is then asked for NMEA. Its JSON lines are passed on; NMEA parsers
    skip them. The platform's resolver looks up host names and may block.
    """

    def _connect(self):
        """Start a connection. A refusal is reported by the first read."""
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
        self._watching = self._queried = False
        self._received_ms = self._now_ms()
        return s

    def readinto(self, buf):
        """Read available bytes into `buf`; return their number, 0 when there are none or gpsd is not connected."""
        n = super().readinto(buf)
        if not n and self._file is not None and self._now_ms() - self._received_ms > _SILENCE_MS:
            self._query()
        return n

    def _query(self):
        """Query gpsd after a silence: the receiver may be silent, or the host of gpsd unreachable."""
        self._received_ms = self._now_ms()
        try:
            if self._queried:
                raise OSError
            self._queried = True
            self._file.send(_VERSION_QUERY)
        except OSError:
            self._close()

    def _receive(self, buf):
        data = self._file.recv(len(buf))  # MicroPython's sockets have readinto and no recv_into
        buf[: len(data)] = data
        self._received_ms = self._now_ms()
        self._queried = False
        if data and not self._watching:
            self._watching = True
            self._file.send(_WATCH)
            self._log("%s: connected to %s" % (self._name, self._path))
        return len(data)

    def write(self, buf):
        """Discard `buf`: gpsd does not pass client data to the receiver."""
