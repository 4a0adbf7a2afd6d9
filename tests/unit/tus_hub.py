"""A tus hub in memory as a raw stream (compat.stream), honest or lying; cuts and slow storage. Both runtimes."""

from patrolink_protocol.key_derivation import hmac, hmac_pads

KEY = bytes(range(32))


class TusHub:
    """files: url -> bytes that it has. lie: function(offset) -> what it tells; answers: raw ones, given first."""

    def __init__(self):
        self.files = {}
        self.sizes = {}
        self.metadata = {}
        self.cut_after = None  # function() -> bytes until a connection is cut, None for never
        self.lie = None
        self.answers = []
        self.requests = []
        self.taken = 0
        self.refuses = 0  # an OSError number that connecting gives
        self.connections = 0

    def connection(self, net):
        self.connections += 1
        return _Connection(self)


class _Connection:
    def __init__(self, hub):
        self.hub = hub
        self.left = hub.cut_after() if hub.cut_after else None
        self.head = b""
        self.url = None
        self.body = 0
        self.out = b""
        self.status = 0
        self.gone = False

    def connect(self, address):
        if self.hub.refuses:
            raise OSError(self.hub.refuses)

    def wait(self, writing):
        pass

    def close(self):
        self.gone = True

    def send(self, view):
        if self.gone:
            raise OSError(104)
        data = bytes(view)
        if self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
            if not self.left:
                self.gone = True
        self.hub.taken += len(data)
        for byte in data:
            self._take(byte)
        return len(data)

    def recv_into(self, view):
        if self.gone:
            return 0
        if not self.out:
            return None
        n = min(len(view), len(self.out), 40)  # an answer comes in pieces
        view[:n] = self.out[:n]
        self.out = self.out[n:]
        return n

    def _take(self, byte):
        if self.body:
            self.hub.files[self.url].append(byte)
            self.body -= 1
            if not self.body:
                self._answer()
            return
        self.head += bytes((byte,))
        if self.head[-4:] == b"\r\n\r\n":
            self._request()

    def _request(self):
        lines = self.head.decode().split("\r\n")
        self.head = b""
        method, path, _ = lines[0].split(" ")
        fields = dict([line.split(": ", 1) for line in lines[1:] if line])
        hub = self.hub
        hub.requests.append(method)
        who, ms, tag = fields["Authorization"].split(" ", 1)[1].split(":")
        number = fields.get("Upload-Offset", fields.get("Upload-Length", ""))
        pads = hmac_pads(hmac(hmac_pads(KEY), b"patrolink-upload", b"\0\0\0\3"))
        covered = "\n".join((method, path, ms, number, fields.get("Upload-Metadata", "")))
        expected = hmac(pads, covered.encode())
        assert (who, tag) == ("dev-1", "".join(["%02x" % b for b in expected])), fields
        self.body = int(fields.get("Content-Length", "0"))
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
        elif method == "PATCH" and int(number) != len(hub.files[path]):
            self.status = 409
        if self.status in (404, 409):
            self.body = 0
        if not self.body:
            self._answer()

    def _answer(self):
        hub = self.hub
        if hub.answers:
            self.out += hub.answers.pop(0)
            return
        out = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 %d X\r\nTus-Resumable: 1.0.0\r\n" % self.status
        if self.status == 201:
            out += "Location: http://elsewhere.example" + self.url + "\r\n"
        if self.status < 400:
            offset = len(hub.files[self.url])
            out += "Upload-Offset: %s\r\n" % (hub.lie(offset) if hub.lie else offset)
        chunked = self.status in (404, 409)
        if hub.requests[-1] == "HEAD":
            out += "Content-Length: 3\r\n\r\n"  # of a body that HEAD does not get
        else:
            body = "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nno!\r\n0\r\n\r\n"
            out += body if chunked else "Content-Length: 0\r\n\r\n"
        self.out += out.encode()
