"""The kit's end of uploads (tus 1.0, CLIP.md "Upload") for cases: bytes of a stream in, bytes out.

It misbehaves where a case asks for that, and records every request.
"""

import base64
import hashlib
import hmac
from typing import NamedTuple

from patrolink.conformance.case import DeviceUnderTest
from patrolink.core.keys import DeviceKey

PORT = 5080
_HEAD_MAX, _DIGITS_MAX = 8192, 12
_HEAD_END = b"\r\n\r\n"
_TEXTS = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found", 409: "Conflict"}


class Request(NamedTuple):
    """The head of a request.

    Attributes:
        method: POST, HEAD or PATCH.
        path: Its path.
        fields: Header fields by name in lower case.
    """

    method: str
    path: str
    fields: dict[str, str]

    def number(self, name: str) -> int:
        """Return the number in a field; -1 if there is none."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else -1

    def metadata(self) -> dict[str, str]:
        """Return `Upload-Metadata`, decoded."""
        pairs = (pair.split(" ", 1) for pair in self.fields.get("upload-metadata", "").split(",") if " " in pair)
        try:
            return {name: base64.b64decode(value).decode(errors="replace") for name, value in pairs}
        except ValueError:
            return {}


class File(NamedTuple):
    """An upload: its path, metadata and length, and what has arrived."""

    path: str
    metadata: dict[str, str]
    length: int
    data: bytearray

    @property
    def is_whole(self) -> bool:
        """Whether the whole file has arrived."""
        return len(self.data) == self.length


class UploadServer:
    """Takes uploads of one device.

    Args:
        device: The device.

    Attributes:
        requests: Heads of all requests, in order.
        files: All uploads, in the order of their creation.
        cuts: Close the connection after so many bytes of the next bodies, one entry each.
        forgets: Bytes that are lost at the last cut.
        conflicts: Answer so many of the next PATCH with 409.
        past: Answer so many of the next HEAD with an offset past the length.
        faults: What a device must never do, in order.
    """

    def __init__(self, device: DeviceUnderTest) -> None:
        self._key = DeviceKey(device.secret, device.epoch).derive(b"patrolink-upload")
        self._name = device.id
        self.requests: list[Request] = []
        self.files: list[File] = []
        self.cuts: list[int] = []
        self.forgets = self.conflicts = self.past = 0
        self.faults: list[str] = []
        self._buf = bytearray()
        self._request: Request | None = None
        self._file: File | None = None
        self._left = self._body = 0

    def whole(self, clip: int) -> dict[str, bytes]:
        """Return the complete files of a clip by name; of several uploads of a name, the last one."""
        return {
            file.metadata.get("name", ""): bytes(file.data)
            for file in self.files
            if file.is_whole and file.metadata.get("clip") == str(clip)
        }

    def feed(self, data: bytes) -> bytes | None:
        """Process bytes of the stream, none: the device has closed it. Return the answer, None to close the stream."""
        if not data:
            self._reset()
            return b""
        self._buf += data
        answer = b""
        while self._request is not None or self._take_head():
            if self._left and not self._buf:
                break
            if not self._take_body():
                self._reset()
                return None
            if self._left:
                break
            answer += self._answer()
            self._request = None
        return answer

    def _reset(self) -> None:
        self._buf.clear()
        self._request = self._file = None

    def _take_head(self) -> bool:
        """Take the head of the next request from the buffer; return whether it is complete."""
        head, end, rest = bytes(self._buf).partition(_HEAD_END)
        if not end:
            if len(head) > _HEAD_MAX:
                self.faults.append("a request without an end")
                self._buf.clear()
            return False
        lines = head.decode(errors="replace").split("\r\n")
        words = (*lines[0].split(" "), "", "")
        pairs = (line.partition(":") for line in lines[1:])
        request = Request(words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in pairs})
        self._buf = bytearray(rest)
        self._request = request
        self.requests.append(request)
        self._left, self._body = max(0, request.number("content-length")), 0
        self._check_authorization(request)
        self._file = self._find(request)
        return True

    def _check_authorization(self, request: Request) -> None:
        word, _, credentials = request.fields.get("authorization", "").partition(" ")
        name, unix_ms, digits = (*credentials.split(":"), "", "", "")[:3]
        number = {"POST": "upload-length", "PATCH": "upload-offset"}.get(request.method, "")
        metadata = request.fields.get("upload-metadata", "")
        text = "\n".join((request.method, request.path, unix_ms, request.fields.get(number, ""), metadata))
        expected = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        if word != "Patrolink" or name != self._name or not hmac.compare_digest(expected, digits):
            self.faults.append(f"{request.method} {request.path}: wrong Authorization")

    def _find(self, request: Request) -> File | None:
        if request.method == "POST":
            length, name = request.number("upload-length"), request.metadata().get("name", "")
            if length < 0 or not name:
                self.faults.append("POST without Upload-Length or name")
                return None
            file = File(f"/clips/{len(self.files)}", request.metadata(), length, bytearray())
            self.files.append(file)
            return file
        return next((file for file in self.files if file.path == request.path), None)

    def _accepts_body(self) -> bool:
        """Return whether the body of this request is stored."""
        assert self._request is not None
        if self._file is None or (self.conflicts and self._request.method == "PATCH"):
            return False
        return self._request.method == "POST" or self._offset_is_right()

    def _offset_is_right(self) -> bool:
        assert self._request is not None and self._file is not None
        return self._request.number("upload-offset") + self._body == len(self._file.data)

    def _take_body(self) -> bool:
        """Take the next bytes of the body; return False to close the connection."""
        n = min(self._left, len(self._buf))
        is_cut = bool(n) and bool(self.cuts) and self._body + n > self.cuts[0]
        if is_cut:
            n = self.cuts.pop(0) - self._body
        if n and self._accepts_body():
            assert self._file is not None
            if len(self._file.data) + n > self._file.length:
                self.faults.append(f"{self._file.metadata.get('name')}: bytes past its length")
                n = self._file.length - len(self._file.data)
            self._file.data.extend(self._buf[:n])
        del self._buf[:n]
        self._body += n
        self._left -= n
        if is_cut and not self.cuts and self._file is not None and self.forgets:
            del self._file.data[max(0, len(self._file.data) - self.forgets) :]
        return not is_cut

    def _answer(self) -> bytes:
        request, file = self._request, self._file
        assert request is not None
        if file is None:
            return _response(404)
        offset = {"Upload-Offset": str(len(file.data))}
        if request.method == "POST":
            return _response(201, {"Location": file.path, **offset})
        if request.method == "HEAD":
            if self.past:
                self.past -= 1
                offset = {"Upload-Offset": str(file.length + 1)}
            return _response(200, {**offset, "Upload-Length": str(file.length), "Cache-Control": "no-store"})
        if self.conflicts:
            self.conflicts -= 1
            return _response(409)
        is_right = request.number("upload-offset") + self._body == len(file.data)
        if not is_right:
            self.faults.append(f"PATCH at {request.number('upload-offset')}, which the hub did not name")
            return _response(409)
        return _response(204, offset)


def _response(status: int, fields: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} {_TEXTS[status]}", "Tus-Resumable: 1.0.0"]
    lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
    if status != 204:
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
