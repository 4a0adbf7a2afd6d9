"""tus 1.0 resumable uploads (protocol/CLIP.md, "Upload"): answers and time in, requests out. MicroPython subset."""

import binascii

from patrolink_protocol.key_derivation import derive_key, hmac, hmac_pads
from patrolink_protocol.native import const

WHOLE = const(32768)  # a file up to this goes with its creation: one round trip
_LINE = const(1024)  # bytes of a line of an answer that are looked at
_HEAD = const(8192)  # bytes of an answer's head
_BODY = const(65536)  # bytes of an answer's body, which is not looked at
_PATH = const(512)  # where object storage is behind the hub, its name for the upload is part of it
_NUMBER = const(12)  # digits
_AFRESH = const(3)  # times without progress that a file is begun anew for what the hub answers
_STUCK = const(8)  # times in a row that the hub fails with one upload
_RETRY_MS = const(1000)
_RETRY_S_MOST = const(3600)
_STATUS, _FIELD, _BYTES, _SIZE, _CHUNK, _AFTER, _TRAILER, _DONE = range(8)
_KNOWN = (b"content-length", b"retry-after", b"upload-offset", b"location", b"transfer-encoding", b"connection")


class HttpError(Exception):
    """The hub answers what is not HTTP or not tus."""


class UploadRejectedError(Exception):
    """This file cannot go to this hub now."""


class HttpResponse:
    """One answer of HTTP/1.1. `status` 0 until it is known; `keep`: the connection can be used again."""

    def __init__(self, method):
        self._head = method == "HEAD"
        self._line = bytearray()
        self._state = _STATUS
        self._left = 0  # bytes of the body or chunk
        self._body = 0
        self._read = 0
        self.status = 0
        self.fields = {}
        self.keep = True

    @property
    def done(self):
        return self._state == _DONE

    def take(self, data):
        """Take bytes of the answer; Fault when they are none, or when more come than were announced."""
        at = 0
        while at < len(data):
            if self._state == _DONE:
                raise HttpError("bytes after the answer")
            if self._state in (_BYTES, _CHUNK):
                n = min(self._left, len(data) - at)
                self._left -= n
                at += n
                if not self._left:
                    self._state = _DONE if self._state == _BYTES else _AFTER
                continue
            self._byte(data[at])
            at += 1

    def _byte(self, byte):
        self._read += 1
        if self._read > _HEAD:
            raise HttpError("a head of more than %d bytes" % _HEAD)
        if byte != 10:
            if len(self._line) < _LINE:
                self._line.append(byte)
            return
        line, self._line = bytes(self._line).strip(), bytearray()
        if self._state == _STATUS:
            self._begin(line)
        elif self._state == _FIELD:
            self._field(line) if line else self._end_of_head()
        elif self._state == _SIZE:
            self._chunk(line)
        elif self._state == _AFTER:
            self._state = _SIZE
        elif not line:
            self._state = _DONE

    def _begin(self, line):
        words = line.split(None, 2)
        if len(words) < 2 or words[0][:7] != b"HTTP/1." or len(words[1]) != 3 or not words[1].isdigit():
            raise HttpError("no answer of HTTP/1.1")
        self.status = int(words[1])
        self.keep = words[0] == b"HTTP/1.1"
        self.fields = {}
        self._state = _FIELD

    def _field(self, line):
        name, colon, value = line.partition(b":")
        if not colon:
            raise HttpError("a field without a colon")
        name = name.lower()
        if name in _KNOWN:
            if len(line) >= _LINE:
                raise HttpError("a %s of more than %d bytes" % (name.decode(), _LINE))
            if self.fields.get(name, value) != value:
                raise HttpError("two of %s" % name.decode())
            self.fields[name] = value

    def _end_of_head(self):
        status = self.status
        if 100 <= status < 200:
            self._state, self.status = _STATUS, 0  # 100 Continue: the answer is still to come
            return
        if b"close" in self.fields.get(b"connection", b"").lower():
            self.keep = False
        if self._head or status in (204, 304):
            self._state = _DONE
        elif b"chunked" in self.fields.get(b"transfer-encoding", b"").lower():
            self._state = _SIZE
        elif b"content-length" not in self.fields:
            self._state, self.keep = _DONE, False  # its body ends with the connection, and nobody wants it
        else:
            self._left = self._add(self.number(b"content-length"))
            self._state = _BYTES if self._left else _DONE

    def _chunk(self, line):
        digits = line.partition(b";")[0].strip()
        try:
            n = int(digits, 16) if 0 < len(digits) <= 8 else -1
        except ValueError:
            n = -1
        if n:
            self._left = self._add(n)
            self._state = _CHUNK
        else:
            self._state = _TRAILER

    def _add(self, n):
        self._body += n if n is not None else _BODY + 1
        if n is None or n < 0 or self._body > _BODY:
            raise HttpError("a body of a wrong length, or of more than %d bytes" % _BODY)
        return n

    def number(self, name):
        """Return a field's number, None when it has none or is not one."""
        digits = self.fields.get(name, b"").strip()
        return int(digits) if digits.isdigit() and len(digits) <= _NUMBER else None


class TusClient:
    """What all requests to one hub have in common. `host`: as in the field of that name; `path`: of creation."""

    def __init__(self, key, device, epoch, host, path):
        self._pads = hmac_pads(derive_key(key, b"patrolink-upload", epoch))
        self.device = device
        self._host = host
        self.path = path

    def head(self, method, path, unix_ms, fields, length):
        """Return a request's head. `fields`: (name, value) pairs; `length` of its body, None for none."""
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
        if length is not None:
            lines.append("Content-Length: %d" % length)
            if length:
                lines.append("Content-Type: application/offset+octet-stream")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Transfer:
    """One file on its way. `url`: path of its upload at the hub, None until it has one; `offset`: what the hub has."""

    def __init__(self, client, item, url):
        self._client = client
        self.item = item
        self.url = url
        self.offset = 0
        self._sure = False  # `offset` is what the hub said last
        self._afresh = self._stuck = self._best = 0
        self._most = item.bytes  # that the hub can have, after all that it was sent
        self._whole = WHOLE
        self._method = ""
        self._n = 0
        self.done = False
        self.created = False  # `url` is a new one, to be kept

    def lost(self):
        """The connection is gone: what the hub has is to be asked for."""
        self._sure = False
        if self._method == "POST" and self._n:
            self._whole = 0  # what came of it has no address: so that it is in vain but once, the file goes in pieces

    def ask(self, unix_ms, most):
        """Return (method, head, n): the next request; its body are n bytes of the file from `offset` on.

        n is `most` at most, half as much more where that ends the file. A file of up to WHOLE bytes is not divided,
        unless its connection was lost.
        """
        item = self.item
        self._n = 0
        if self.url is None:
            self._method = "POST"
            self.offset = 0
            self._n = item.bytes if item.bytes <= self._whole else 0
            fields = (("Upload-Length", str(item.bytes)), ("Upload-Metadata", self._metadata()))
            head = self._client.head("POST", self._client.path, unix_ms, fields, self._n)
            self._most = self._n
        elif not self._sure:
            self._method = "HEAD"
            head = self._client.head("HEAD", self.url, unix_ms, (), None)
        else:
            self._method = "PATCH"
            left = item.bytes - self.offset
            self._n = left if left <= most + (most >> 1) else most
            head = self._client.head("PATCH", self.url, unix_ms, (("Upload-Offset", str(self.offset)),), self._n)
            self._most = max(self._most, self.offset + self._n)
        return self._method, head, self._n

    def _metadata(self):
        item = self.item
        given = (
            ("device", self._client.device),
            ("clip", str(item.clip).encode()),
            ("name", item.name.encode()),
            ("sha256", item.sha256.encode()),
        )
        return ",".join(["%s %s" % (k, binascii.b2a_base64(v).decode().strip()) for k, v in given])

    def take(self, reply):
        """Take the answer. Return ms to wait, 0 for none, -1 for a back-off; GiveUp when this file cannot go."""
        status = reply.status
        self._stuck = self._stuck + 1 if status == 500 and self._method != "POST" else 0
        if self._stuck > _STUCK:
            self._stuck = 0
            return self._again("the hub fails with this upload")
        if status in (401, 408, 423, 429) or status >= 500:
            self._sure = False
            s = reply.number(b"retry-after")
            return -1 if s is None else max(_RETRY_MS, min(s, _RETRY_S_MOST) * 1000)
        if status in (403, 404, 410) and self._method != "POST":
            return self._again("the hub does not know the upload any more")
        if status == 409 and self._method == "PATCH":
            self._sure = False
            return self._blame("the hub refuses the offset that it told")
        if self._method == "POST" and status == 201:
            self._place(reply)
        elif status not in (200, 204) or self._method == "POST":
            return self._again("the hub answers %s with %d" % (self._method, status))
        return self._take_offset(reply)

    def _place(self, reply):
        url = reply.fields.get(b"location", b"").strip()
        for scheme in (b"http://", b"https://", b"//"):
            if url.startswith(scheme):
                url = url[len(scheme) :]
                url = url[url.find(b"/") :] if b"/" in url else b""
                break
        else:
            if url and url[:1] != b"/":  # beside the address of creation (RFC 3986, 5.2.3)
                path = self._client.path
                url = path[: path.rfind("/") + 1].encode() + url
        # Only its path: nothing is ever sent to another host than the one that was configured.
        if url[:1] != b"/" or len(url) > _PATH or [c for c in url if not 32 < c < 127]:
            raise UploadRejectedError("the hub gives no address for the upload")
        self.url = url.decode()
        self.created = True

    def _take_offset(self, reply):
        told = reply.number(b"upload-offset")
        before = self.offset
        if self._method == "POST" and told is None and not reply.fields.get(b"upload-offset"):
            self._sure = not self._n  # a hub without creation-with-upload: ask what it has
            return self._finish()
        if self._method == "POST" and told is not None:
            self._most = max(self._most, min(told, self.item.bytes))  # it may have had the file before
        most = before + self._n if self._method == "PATCH" else self._most
        if told is None or told > most:
            return self._again("the hub has %s bytes, and was sent %d" % (told, most))
        if told < before and self._method != "HEAD":
            return self._again("the hub has %d bytes, and had %d" % (told, before))
        self.offset = told
        self._sure = True
        if told > self._best:
            self._best, self._afresh = told, 0
        if told < before:  # storage behind it lost some: go on there
            return self._blame("the hub loses what it had")
        if self._method == "PATCH" and told == before:
            return self._blame("the hub took nothing")
        return self._finish()

    def _finish(self):
        self.done = self._sure and self.offset == self.item.bytes
        return 0

    def _blame(self, why):
        self._afresh += 1
        if self._afresh > _AFRESH:
            raise UploadRejectedError(why)
        return -1

    def _again(self, why):
        """Begin the file anew, a few times."""
        self.url = None
        self.offset = 0
        self._sure = False
        return self._blame(why)
