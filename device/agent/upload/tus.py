"""tus 1.0 resumable uploads (protocol/CLIP.md, "Upload"): responses and time in, requests out. MicroPython subset."""

import binascii
from collections import namedtuple

from patrolink_protocol.key_derivation import derive_key, hmac, hmac_pads
from patrolink_protocol.native import const

SINGLE_REQUEST_MAX = const(32768)  # bytes of a file that is sent with its creation, in one round trip
_LINE_MAX = const(1024)  # bytes of a line that are kept
_HEAD_MAX = const(8192)  # bytes of a response's head, and of the framing of its body
_BODY_MAX = const(65536)  # bytes of a response's body, which is skipped
_PATH_MAX = const(512)  # object storage behind the hub makes the path of an upload long
_DIGITS_MAX = const(12)
_RESTARTS_MAX = const(3)  # restarts of a file without progress
_SERVER_ERRORS_MAX = const(8)  # in a row for one upload
_RETRY_MS = const(1000)
_RETRY_S_MAX = const(3600)
_STATUS, _FIELD, _BODY, _CHUNK_SIZE, _CHUNK, _CHUNK_END, _TRAILER, _DONE = range(8)
_KNOWN = (b"content-length", b"retry-after", b"upload-offset", b"location", b"transfer-encoding", b"connection")

# A request: its method, its head as bytes, and the bytes of its body.
Request = namedtuple("Request", ("method", "head", "body_bytes"))


class HttpError(Exception):
    """The response is not valid HTTP/1.1."""


class UploadRejectedError(Exception):
    """The hub does not accept this file now."""


class HttpResponse:
    """Parser of one HTTP/1.1 response.

    Attributes:
        status: Status code, 0 until it is known.
        fields: Header fields that are used here, lower-case name -> value.
        keep_alive: The connection can be used again.

    Args:
        method: Method of the request.
    """

    def __init__(self, method):
        self._without_body = method == "HEAD"
        self._line = bytearray()
        self._state = _STATUS
        self._remaining = 0  # bytes of the body or chunk
        self._body_bytes = 0
        self._head_bytes = 0
        self.status = 0
        self.fields = {}
        self.keep_alive = True

    @property
    def done(self):
        """Whether the response is complete."""
        return self._state == _DONE

    def feed(self, data):
        """Parse received bytes.

        Raises:
            HttpError: They are not HTTP, exceed a limit, or follow the end of the response.
        """
        at = 0
        while at < len(data):
            if self._state == _DONE:
                raise HttpError("data after the end of the response")
            if self._state in (_BODY, _CHUNK):
                n = min(self._remaining, len(data) - at)
                self._remaining -= n
                at += n
                if not self._remaining:
                    self._state = _DONE if self._state == _BODY else _CHUNK_END
                continue
            self._feed_byte(data[at])
            at += 1

    def _feed_byte(self, byte):
        self._head_bytes += 1
        if self._head_bytes > _HEAD_MAX:
            raise HttpError("the response head exceeds %d bytes" % _HEAD_MAX)
        if byte != 10:
            if len(self._line) < _LINE_MAX:
                self._line.append(byte)
            return
        line, self._line = bytes(self._line).strip(), bytearray()
        if self._state == _STATUS:
            self._parse_status(line)
        elif self._state == _FIELD:
            if line:
                self._parse_field(line)
            else:
                self._end_head()
        elif self._state == _CHUNK_SIZE:
            self._parse_chunk_size(line)
        elif self._state == _CHUNK_END:
            self._state = _CHUNK_SIZE
        elif not line:
            self._state = _DONE

    def _parse_status(self, line):
        words = line.split(None, 2)
        if len(words) < 2 or words[0][:7] != b"HTTP/1." or len(words[1]) != 3 or not words[1].isdigit():
            raise HttpError("the response is not HTTP/1.1")
        self.status = int(words[1])
        self.keep_alive = words[0] == b"HTTP/1.1"
        self.fields = {}
        self._state = _FIELD

    def _parse_field(self, line):
        name, colon, value = line.partition(b":")
        if not colon:
            raise HttpError("a header field has no colon")
        name = name.lower()
        if name in _KNOWN:
            if len(line) >= _LINE_MAX:
                raise HttpError("the field %s exceeds %d bytes" % (name.decode(), _LINE_MAX))
            if self.fields.get(name, value) != value:
                raise HttpError("the field %s occurs twice with different values" % name.decode())
            self.fields[name] = value

    def _end_head(self):
        status = self.status
        if 100 <= status < 200:
            self._state, self.status = _STATUS, 0  # 100 Continue: the final response follows
            return
        if b"close" in self.fields.get(b"connection", b"").lower():
            self.keep_alive = False
        if self._without_body or status in (204, 304):
            self._state = _DONE
        elif b"chunked" in self.fields.get(b"transfer-encoding", b"").lower():
            self._state = _CHUNK_SIZE
        elif b"content-length" not in self.fields:
            self._state, self.keep_alive = _DONE, False  # the body ends with the connection; it is not used
        else:
            self._remaining = self._count_body(self.number(b"content-length"))
            self._state = _BODY if self._remaining else _DONE

    def _parse_chunk_size(self, line):
        digits = line.partition(b";")[0].strip()
        try:
            n = int(digits, 16) if 0 < len(digits) <= 8 else -1
        except ValueError:
            n = -1
        if n:
            self._remaining = self._count_body(n)
            self._state = _CHUNK
        else:
            self._state = _TRAILER

    def _count_body(self, n):
        self._body_bytes += n if n is not None else _BODY_MAX + 1
        if n is None or n < 0 or self._body_bytes > _BODY_MAX:
            raise HttpError("the body length is invalid or exceeds %d bytes" % _BODY_MAX)
        return n

    def number(self, name):
        """Return the number in a field, or None if the field is missing or not a number."""
        digits = self.fields.get(name, b"").strip()
        return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


class TusClient:
    """Builds the heads of all requests to one hub.

    Args:
        key: The device's key, 32 bytes.
        device: Name of the device, bytes.
        epoch: Key epoch.
        host: Value of the Host field.
        path: Path for the creation of uploads.
    """

    def __init__(self, key, device, epoch, host, path):
        self._pads = hmac_pads(derive_key(key, b"patrolink-upload", epoch))
        self.device = device
        self._host = host
        self.path = path

    def head(self, method, path, unix_ms, fields, body_bytes):
        """Return the head of a request, bytes.

        Args:
            method: POST, HEAD or PATCH.
            path: Path of the creation or of the upload.
            unix_ms: Current time, part of the authorization.
            fields: (name, value) pairs.
            body_bytes: Length of the body; None for a request without one.
        """
        number = metadata = ""
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: " + self._host, "Tus-Resumable: 1.0.0"]
        for name, value in fields:
            if name in ("Upload-Offset", "Upload-Length"):
                number = value
            elif name == "Upload-Metadata":
                metadata = value
            lines.append("%s: %s" % (name, value))
        tag = hmac(self._pads, ("%s\n%s\n%d\n%s\n%s" % (method, path, unix_ms, number, metadata)).encode())
        tag = binascii.hexlify(tag).decode()
        lines.append("Authorization: Patrolink %s:%d:%s" % (self.device.decode(), unix_ms, tag))
        if body_bytes is not None:
            lines.append("Content-Length: %d" % body_bytes)
            if body_bytes:
                lines.append("Content-Type: application/offset+octet-stream")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Transfer:
    """State of the upload of one file.

    Attributes:
        item: agent.recording.upload_queue.UploadItem.
        url: Path of the upload at the hub, None before its creation.
        offset: Bytes that the hub has.
        done: The hub has the whole file.

    Args:
        client: TusClient.
        item: The UploadItem.
        url: Path of an upload that was created before, or None.
    """

    def __init__(self, client, item, url):
        self._client = client
        self.item = item
        self.url = url
        self.offset = 0
        self.done = False
        self._offset_known = False  # the hub has confirmed `offset` on this connection
        self._restarts = self._server_errors = self._best_offset = 0
        self._sent_max = item.bytes  # bytes that the hub can have of this upload
        self._single_request_max = SINGLE_REQUEST_MAX
        self._method = ""
        self._body_bytes = 0

    def connection_lost(self):
        """The connection is closed: ask the hub for the offset before sending more."""
        self._offset_known = False
        if self._method == "POST" and self._body_bytes:
            # The hub may have a part under a path we do not know. Next time create first, so that only this is lost.
            self._single_request_max = 0

    def next_request(self, unix_ms, body_max):
        """Return the next Request; its body are the bytes of the file from `offset` on.

        Args:
            unix_ms: Current time.
            body_max: Bytes of a body; the last body of a file may be longer by half. Does not apply to a small file
                that is sent with its creation.
        """
        item = self.item
        self._body_bytes = 0
        if self.url is None:
            self._method = "POST"
            self.offset = 0
            self._body_bytes = item.bytes if item.bytes <= self._single_request_max else 0
            fields = (("Upload-Length", str(item.bytes)), ("Upload-Metadata", self._metadata()))
            head = self._client.head("POST", self._client.path, unix_ms, fields, self._body_bytes)
            self._sent_max = self._body_bytes
        elif not self._offset_known:
            self._method = "HEAD"
            head = self._client.head("HEAD", self.url, unix_ms, (), None)
        else:
            self._method = "PATCH"
            left = item.bytes - self.offset
            self._body_bytes = left if left <= body_max + (body_max >> 1) else body_max
            fields = (("Upload-Offset", str(self.offset)),)
            head = self._client.head("PATCH", self.url, unix_ms, fields, self._body_bytes)
            self._sent_max = max(self._sent_max, self.offset + self._body_bytes)
        return Request(self._method, head, self._body_bytes)

    def _metadata(self):
        item = self.item
        pairs = (
            ("device", self._client.device),
            ("clip", str(item.clip).encode()),
            ("name", item.name.encode()),
            ("sha256", item.sha256.encode()),
        )
        return ",".join(["%s %s" % (k, binascii.b2a_base64(v).decode().strip()) for k, v in pairs])

    def handle_response(self, response):
        """Update from an HttpResponse.

        Returns:
            The ms to wait before the next request; 0 for none, -1 for a back-off.

        Raises:
            UploadRejectedError: The hub does not accept this file now.
        """
        status = response.status
        self._server_errors = self._server_errors + 1 if status == 500 and self._method != "POST" else 0
        if self._server_errors > _SERVER_ERRORS_MAX:
            self._server_errors = 0
            return self._restart("the hub keeps failing with this upload (500)")
        if status in (401, 408, 423, 429) or status >= 500:
            self._offset_known = False
            retry_s = response.number(b"retry-after")
            return -1 if retry_s is None else max(_RETRY_MS, min(retry_s, _RETRY_S_MAX) * 1000)
        if status in (403, 404, 410) and self._method != "POST":
            return self._restart("the hub no longer knows the upload")
        if status == 409 and self._method == "PATCH":
            self._offset_known = False
            return self._count_restart("the hub refuses the offset that it gave")
        if self._method == "POST" and status == 201:
            self._set_url(response)
        elif status not in (200, 204) or self._method == "POST":
            return self._restart("the hub answered %s with %d" % (self._method, status))
        return self._set_offset(response)

    def _set_url(self, response):
        url = response.fields.get(b"location", b"").strip()
        for scheme in (b"http://", b"https://", b"//"):
            if url.startswith(scheme):
                url = url[len(scheme) :]
                url = url[url.find(b"/") :] if b"/" in url else b""
                break
        else:
            if url and url[:1] != b"/":  # relative to the path of the creation (RFC 3986, 5.2.3)
                path = self._client.path
                url = path[: path.rfind("/") + 1].encode() + url
        # Only the path is kept: nothing is ever sent to a host other than the configured one.
        if url[:1] != b"/" or len(url) > _PATH_MAX or [c for c in url if not 32 < c < 127]:
            raise UploadRejectedError("the hub gave no usable Location for the upload")
        self.url = url.decode()

    def _set_offset(self, response):
        offset = response.number(b"upload-offset")
        previous = self.offset
        if self._method == "POST" and offset is None and not response.fields.get(b"upload-offset"):
            self._offset_known = not self._body_bytes  # a hub without creation-with-upload: ask what it has
            return self._finish()
        if self._method == "POST" and offset is not None:
            # The hub may have the file already, from an earlier upload.
            self._sent_max = max(self._sent_max, min(offset, self.item.bytes))
        offset_max = previous + self._body_bytes if self._method == "PATCH" else self._sent_max
        if offset is None or offset > offset_max:
            return self._restart("the hub claims %s bytes, but only %d were sent" % (offset, offset_max))
        if offset < previous and self._method != "HEAD":
            return self._restart("the hub has %d bytes, but had %d before" % (offset, previous))
        self.offset = offset
        self._offset_known = True
        if offset > self._best_offset:
            self._best_offset, self._restarts = offset, 0
        if offset < previous:  # its storage lost some bytes: continue from there
            return self._count_restart("the hub loses bytes that it had")
        if self._method == "PATCH" and offset == previous:
            return self._count_restart("the hub accepted no bytes")
        return self._finish()

    def _finish(self):
        self.done = self._offset_known and self.offset == self.item.bytes
        return 0

    def _count_restart(self, reason):
        self._restarts += 1
        if self._restarts > _RESTARTS_MAX:
            raise UploadRejectedError(reason)
        return -1

    def _restart(self, reason):
        """Create a new upload of the file, a few times at most."""
        self.url = None
        self.offset = 0
        self._offset_known = False
        return self._count_restart(reason)
