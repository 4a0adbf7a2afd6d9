"""Run the uploader on one runtime over real sockets, for test_upload.py.

python|micropython upload_pipe.py JSON_FILE     {"host", "port", "path", "kbps", "file", "sha256", "s", optional "tls"}

Uploads the file. Logs to standard error. At the end it prints one line of JSON: {"done", "sent", "longest_ms"}, where
`longest_ms` is the duration of the longest step.
"""

import json
import os
import random
import sys

FOLDER = __file__.rsplit("/", 1)[0]
for subfolder in ("/../../../device", "/../../../protocol", "/../../../protocol/generated"):
    sys.path.insert(0, FOLDER + subfolder)

from agent.link.backoff import Backoff  # noqa: E402
from agent.recording.upload_queue import UploadItem  # noqa: E402
from agent.upload import tus  # noqa: E402
from agent.upload.uploader import Uploader, UploadNetwork  # noqa: E402
from compat import tls  # noqa: E402
from compat.netsock import TcpSocket  # noqa: E402
from hal.posix import platform  # noqa: E402

UNIX_MS = 1795000000000
NAME = "000001-000001.pls"


class SingleFileQueue:
    """An upload queue with one file."""

    def __init__(self, path, sha256):
        self._file = open(path, "rb")  # noqa: SIM115
        self._item = UploadItem(1, NAME, os.stat(path)[6], sha256, False)
        self._url = None
        self.done = False

    def pending(self):
        return () if self.done else (self._item,)

    def read(self, name, at, buf):
        self._file.seek(at)
        return self._file.readinto(buf)

    def mark_uploaded(self, clip, name):
        self.done = True

    def upload_url(self, clip, name):
        return self._url

    def set_upload_url(self, clip, name, url):
        self._url = url


def main():
    with open(sys.argv[1]) as f:
        settings = json.load(f)
    clock = platform.Clock()
    queue = SingleFileQueue(settings["file"], settings["sha256"])
    socket_type = TcpSocket
    if settings.get("tls"):
        context = tls.context(settings["tls"], "upload.tls")
        socket_type = lambda net: tls.TlsSocket(net, TcpSocket(net), context)  # noqa: E731
    uploader = Uploader(
        queue,
        tus.TusClient(bytes(range(32)), b"dev-1", 3, settings["host"] + ":" + str(settings["port"]), settings["path"]),
        UploadNetwork(clock.now_ms, lambda: None, socket_type, lambda: False),
        (settings["host"], settings["port"]),
        settings["kbps"],
        lambda now: UNIX_MS + now,
        Backoff(lambda n: random.getrandbits(16) % n),
        lambda text: print(text, file=sys.stderr),
    )
    inputs = platform.Inputs()
    end = clock.now_ms() + settings["s"] * 1000
    longest = 0
    while not queue.done and clock.now_ms() < end:
        now = clock.now_ms()
        wait = uploader.step(now, False, False)
        longest = max(longest, clock.now_ms() - now)
        inputs.wait(min(wait, 20))
    print(json.dumps({"done": queue.done, "sent": uploader.sent, "longest_ms": longest}))


main()
