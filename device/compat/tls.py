"""TLS over a raw stream (see compat.stream), on all boards: keys stay in the agent and are never given to a modem.

Certificate and name of the server are always verified. MicroPython wraps the stream directly; CPython's ssl works on
memory buffers, and this module moves the bytes.
"""

import binascii
import ssl

from compat.stream import PeerRefusedError

_BUFFER_BYTES = 1024


def context(options, where):
    """Return an SSLContext.

    Args:
        options: {"ca": file, "cert": file, "key": file}; cert and key are for a client certificate and optional.
        where: Path of the options in the configuration, for errors.

    Raises:
        ValueError: a file is missing or cannot be used.
    """
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.verify_mode = ssl.CERT_REQUIRED  # type: ignore[attr-defined]  # missing in the stubs of MicroPython
    for name in ("ca", "cert", "key"):
        path = options.get(name)
        if name == "ca" and not path:
            raise ValueError(
                where + ".ca is missing: name the file of the CA certificate that signed the server's certificate"
            )
        if path and not _readable(path):
            raise ValueError("%s.%s: cannot read %s" % (where, name, path))
    try:
        if hasattr(ssl, "MemoryBIO"):
            ctx.load_verify_locations(options["ca"])
            if options.get("cert"):
                ctx.load_cert_chain(options["cert"], options.get("key"))
        else:
            ctx.load_verify_locations(cadata=_der(options["ca"], "CERTIFICATE"))
            if options.get("cert"):
                cert = options["cert"]
                ctx.load_cert_chain(_der(cert, "CERTIFICATE"), _der(options.get("key") or cert, "PRIVATE KEY"))
    except (OSError, ValueError) as e:
        raise ValueError("%s: cannot use a certificate or key: %s" % (where, e))
    return ctx


def _der(path, label):
    """Return the first block of a PEM file (RFC 7468) with this label as DER: MicroPython's mbedTLS lacks PEM."""
    text = None
    with open(path) as f:
        for line in f:
            line = line.strip()
            if line.startswith("-----BEGIN ") and line.endswith(label + "-----"):
                text = ""
            elif line.startswith("-----END ") and text is not None:
                return binascii.a2b_base64(text)
            elif text is not None:
                text += line
    raise ValueError("%s contains no %s" % (path, label))


def _readable(path):
    try:
        open(path, "rb").close()
        return True
    except OSError:
        return False


class _Tls:
    def __init__(self, net, raw, ctx):
        self._net = net
        self._raw = raw
        self._ctx = ctx

    def connect(self, address):
        self._raw.connect(address)
        try:
            self._handshake(address[0])  # type: ignore[attr-defined]  # defined per runtime, below
        except PeerRefusedError:
            raise
        except (OSError, ValueError) as e:
            if e is self._net.bug or isinstance(e, OSError) and not _is_tls(e):
                raise
            raise PeerRefusedError(
                "TLS with %s failed: %s; check the host name and the tls options of its address" % (address[0], e)
            )

    def wait(self, writing):
        return self._raw.wait(writing)

    def close(self):
        self._raw.close()


if hasattr(ssl, "MemoryBIO"):

    def _is_tls(error):
        return isinstance(error, ssl.SSLError)

    class TlsSocket(_Tls):
        """TLS on CPython."""

        def _handshake(self, host):
            self._in = ssl.MemoryBIO()
            self._out = ssl.MemoryBIO()
            self._buf = memoryview(bytearray(_BUFFER_BYTES))
            self._tls = self._ctx.wrap_bio(self._in, self._out, server_hostname=host)
            deadline = self._net.now_ms() + self._net.timeout_ms
            while True:
                try:
                    self._tls.do_handshake()
                    self._push(deadline)
                    return
                except ssl.SSLWantReadError:
                    self._push(deadline)
                    if self._pull() is None:
                        self._net.await_(self._raw, False, deadline)

        def _push(self, deadline):
            """Send all bytes that TLS has produced."""
            data = memoryview(self._out.read())
            while data:
                n = self._raw.send(data)
                data = data[n:]
                if not n:
                    self._net.await_(self._raw, True, deadline)

        def _pull(self):
            n = self._raw.recv_into(self._buf)
            if n:
                self._in.write(self._buf[:n])
            elif n == 0:
                self._in.write_eof()
            return n

        def send(self, view):
            """Encrypt and send `view`; return its length."""
            n = self._tls.write(view)
            self._push(self._net.now_ms() + self._net.timeout_ms)
            return n

        def recv_into(self, view):
            """Receive into `view`; return the number of bytes, None if none are available, 0 at the end."""
            while True:
                # A read without data costs an exception, several times a second.
                if not self._in.pending and not self._tls.pending() and self._pull() is None:
                    return None
                try:
                    return self._tls.read(len(view), view)
                except ssl.SSLWantReadError:
                    continue
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    return 0

else:
    import io

    _EAGAIN = 11
    _EIO = 5

    def _is_tls(error):
        return error.errno is None or error.errno < 0 or error.errno > 200

    class _Port(io.IOBase):
        """The raw stream as mbedTLS reads and writes it. Errors are returned, because mbedTLS is C code."""

        def __init__(self, net, raw):
            self._net = net
            self._raw = raw
            self.deadline = None
            self.error = None

        def readinto(self, buf):
            return self._transfer(self._raw.recv_into, buf, False)

        def write(self, buf):
            return self._transfer(self._raw.send, buf, True)

        def _transfer(self, function, buf, writing):
            try:
                while True:
                    n = function(memoryview(buf))
                    if n or n == 0 and not writing:
                        return n
                    if self.deadline is None and not writing:
                        return None
                    self._net.await_(self._raw, writing, self.deadline or self._net.now_ms() + self._net.timeout_ms)
            except Exception as e:
                self.error = e
                return -_EIO

        def ioctl(self, op, arg):
            return 0

    class TlsSocket(_Tls):
        """TLS on MicroPython."""

        def _handshake(self, host):
            self._port = _Port(self._net, self._raw)
            self._port.deadline = self._net.now_ms() + self._net.timeout_ms
            try:
                self._tls = self._ctx.wrap_socket(self._port, server_hostname=host)
            finally:
                self._port.deadline = None
                if self._port.error is not None:
                    raise self._port.error

        def _call(self, function, argument):
            try:
                return function(argument)
            except OSError as e:
                raise self._port.error or e

        def send(self, view):
            """Encrypt and send `view`; return the number of bytes accepted."""
            return self._call(self._tls.write, view) or 0

        def recv_into(self, view):
            """Receive into `view`; return the number of bytes, None if none are available, 0 at the end."""
            return self._call(self._tls.readinto, view)
