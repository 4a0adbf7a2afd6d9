"""A tus hub in memory, behind a raw stream (compat.stream), with faults on request. Runs on both runtimes."""

from patrolink_protocol.key_derivation import hmac, hmac_pads

KEY = bytes(range(32))
RESPONSE_PIECE = 40  # bytes per read of a response


class TusHub:
    """Checks each request and stores the uploads.

    Attributes:
        files: Received bytes by path of the upload.
        sizes, metadata: Upload-Length and Upload-Metadata by path of the upload.
        requests: Methods of all requests.
        received: Bytes received on all connections.
        connections: Number of connections so far.
        cut_after: Function that returns the bytes after which a new connection is cut; None: never.
        altered_offset: Function(offset) that returns the offset to report; None: the true one.
        responses: Raw responses to send first.
        connect_error: OSError number that `connect` raises; 0: none.
    """

    def __init__(self):
        self.files = {}
        self.sizes = {}
        self.metadata = {}
        self.cut_after = None
        self.altered_offset = None
        self.responses = []
        self.requests = []
        self.received = 0
        self.connect_error = 0
        self.connections = 0

    def connection(self, network):
        self.connections += 1
        return _Connection(self)


class _Connection:
    def __init__(self, hub):
        self.hub = hub
        self.left = hub.cut_after() if hub.cut_after else None
        self.head = b""
        self.url = None
        self.body_left = 0
        self.out = b""
        self.status = 0
        self.closed = False

    def connect(self, address):
        if self.hub.connect_error:
            raise OSError(self.hub.connect_error)

    def wait(self, writing):
        pass

    def close(self):
        self.closed = True

    def send(self, view):
        if self.closed:
            raise OSError(104)
        data = bytes(view)
        if self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
            if not self.left:
                self.closed = True
        self.hub.received += len(data)
        left = memoryview(data)
        while left:
            left = left[self._receive(left) :]
        return len(data)

    def recv_into(self, view):
        if self.closed:
            return 0
        if not self.out:
            return None
        n = min(len(view), len(self.out), RESPONSE_PIECE)
        view[:n] = self.out[:n]
        self.out = self.out[n:]
        return n

    def _receive(self, data):
        """Take bytes of a body, or the next byte of a head. Returns their number."""
        if self.body_left:
            n = min(len(data), self.body_left)
            self.hub.files[self.url].extend(data[:n])
            self.body_left -= n
            if not self.body_left:
                self._respond()
            return n
        self.head += bytes(data[:1])
        if self.head[-4:] == b"\r\n\r\n":
            self._handle_request()
        return 1

    def _handle_request(self):
        lines = self.head.decode().split("\r\n")
        self.head = b""
        method, path, _ = lines[0].split(" ")
        fields = dict([line.split(": ", 1) for line in lines[1:] if line])
        hub = self.hub
        hub.requests.append(method)
        check_authorization(method, path, fields)
        self.body_left = int(fields.get("Content-Length", "0"))
        self.status = 204 if method == "PATCH" else 200
        self.url = path
        if method == "POST":
            self.url = "/clips/%d" % len(hub.sizes)
            self.status = 201
            hub.files[self.url] = bytearray()
            hub.sizes[self.url] = int(fields["Upload-Length"])
            hub.metadata[self.url] = fields["Upload-Metadata"]
        elif path not in hub.files:
            self.status = 404
        elif method == "PATCH" and int(fields["Upload-Offset"]) != len(hub.files[path]):
            self.status = 409
        if self.status in (404, 409):
            self.body_left = 0
        if not self.body_left:
            self._respond()

    def _respond(self):
        hub = self.hub
        if hub.responses:
            self.out += hub.responses.pop(0)
            return
        out = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 %d X\r\nTus-Resumable: 1.0.0\r\n" % self.status
        if self.status == 201:
            out += "Location: http://elsewhere.example" + self.url + "\r\n"
        if self.status < 400:
            offset = len(hub.files[self.url])
            out += "Upload-Offset: %s\r\n" % (hub.altered_offset(offset) if hub.altered_offset else offset)
        if hub.requests[-1] == "HEAD":
            out += "Content-Length: 3\r\n\r\n"  # a response to HEAD has no body
        elif self.status in (404, 409):
            out += "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nno!\r\n0\r\n\r\n"
        else:
            out += "Content-Length: 0\r\n\r\n"
        self.out += out.encode()


def check_authorization(method, path, fields):
    """Check the Authorization field as protocol/CLIP.md defines it."""
    device, ms, tag = fields["Authorization"].split(" ", 1)[1].split(":")
    number = fields.get("Upload-Offset", fields.get("Upload-Length", ""))
    pads = hmac_pads(hmac(hmac_pads(KEY), b"patrolink-upload", b"\0\0\0\3"))
    covered = "\n".join((method, path, ms, number, fields.get("Upload-Metadata", "")))
    expected = hmac(pads, covered.encode())
    assert (device, tag) == ("dev-1", "".join(["%02x" % b for b in expected])), fields
