"""Uploads of clips: the tus protocol, cut connections, a faulty hub, priority of voice. Runs on both runtimes."""

import hashlib
import random

from agent.link.backoff import Backoff
from agent.recording.upload_queue import UploadItem
from agent.upload import tus
from agent.upload.uploader import BUFFER, Uploader, UploadNetwork
from tus_hub import KEY, TusHub

UNIX_MS = 1795000000000


class FakeQueue:
    """An upload queue whose files are in memory.

    Args:
        files: List of (clip, name, bytes, sos), the most important first.
    """

    def __init__(self, files):
        self.files = files
        self.urls = {}
        self.sent = []

    def pending(self):
        for clip, name, data, sos in self.files:
            if (clip, name) not in self.sent:
                yield UploadItem(clip, name, len(data), "ab" * 32, sos)

    def read(self, name, at, buf):
        for _, other, data, _ in self.files:
            if other == name:
                n = min(len(buf), len(data) - at)
                buf[:n] = data[at : at + n]
                return n

    def mark_uploaded(self, clip, name):
        self.sent.append((clip, name))

    def upload_url(self, clip, name):
        return self.urls.get((clip, name))

    def set_upload_url(self, clip, name, url):
        self.urls[(clip, name)] = url


class UploadHarness:
    """An uploader and a hub on a virtual clock."""

    def __init__(self, files, kbps=8000, seed=1):
        self.rng = random.Random(seed) if hasattr(random, "Random") else random
        if self.rng is random:
            random.seed(seed)
        self.now = 0
        self.hub = TusHub()
        self.queue = FakeQueue(files)
        self.voice_busy = self.urgent = False
        self.log = []
        self.kbps = kbps
        self.boot()

    def boot(self):
        client = tus.TusClient(KEY, b"dev-1", 3, "hub:1", "/clips")
        network = UploadNetwork(lambda: self.now, lambda: None, self.hub.connection, lambda: self.urgent)
        backoff = Backoff(lambda n: self.rng.randrange(n))
        self.uploader = Uploader(
            self.queue, client, network, ("hub", 1), self.kbps, lambda now: UNIX_MS + now, backoff, self.log.append
        )

    def run(self, ms):
        """Step until all files are sent, `ms` at most."""
        until = self.now + ms
        while self.now < until and len(self.queue.sent) < len(self.queue.files):
            wait_ms = self.uploader.step(self.now, self.voice_busy, self.urgent)
            self.now += max(1, min(wait_ms, until - self.now))


def blob(n, seed=1):
    """Return n pseudo-random bytes, in one allocation: a fragmented heap has space for few such blocks."""
    out = bytearray(n)
    for at in range(0, n, 32):
        seed += 1
        block = hashlib.sha256(str(seed).encode()).digest()
        out[at : min(at + 32, n)] = block[: min(32, n - at)]
    return out


def test_files_are_uploaded_in_order_and_a_small_one_in_one_request():
    harness = UploadHarness([(7, "000007.plm", blob(900), False), (7, "000001-000002.pls", blob(300000), False)])
    harness.run(60000)
    assert harness.queue.sent == [(7, "000007.plm"), (7, "000001-000002.pls")]
    assert [bytes(harness.hub.files["/clips/%d" % i]) for i in (0, 1)] == [blob(900), blob(300000)]
    assert harness.hub.requests == ["POST", "POST"] + ["PATCH"] * 3, harness.hub.requests
    assert harness.hub.metadata["/clips/0"].startswith("device ZGV2LTE=,clip Nw==,name MDAwMDA3LnBsbQ==,sha256 ")


def test_an_empty_file_is_uploaded():
    harness = UploadHarness([(1, "000001.plm", b"", False)])
    harness.run(10000)
    assert harness.queue.sent and harness.hub.requests == ["POST"]


def test_an_upload_resumes_at_the_offset_of_the_hub_after_each_cut():
    for seed in range(20):
        harness = UploadHarness([(1, "000001-000001.pls", blob(200000), False)], seed=seed)
        harness.hub.cut_after = lambda: harness.rng.randrange(300, 60000)  # noqa: B023
        harness.run(3600000)
        assert len(harness.queue.sent) == 1, (seed, harness.log[-3:])
        assert bytes(harness.hub.files[harness.queue.urls[(1, "000001-000001.pls")]]) == blob(200000), seed
        assert harness.hub.received < 200000 + 1000 * len(harness.hub.requests), (seed, harness.hub.received)


def test_a_small_file_is_sent_in_pieces_after_a_cut():
    harness = UploadHarness([(1, "000001-000001.pls", blob(30000), False)])
    harness.hub.cut_after = lambda: 12000
    harness.run(600000)
    assert bytes(harness.hub.files[harness.queue.urls[(1, "000001-000001.pls")]]) == blob(30000)
    assert harness.queue.sent and harness.hub.received < 12000 + 30000 + 500 * len(harness.hub.requests), (
        harness.hub.requests
    )


def test_an_upload_resumes_after_a_boot():
    harness = UploadHarness([(1, "000001-000001.pls", blob(100000), False)], kbps=100)
    harness.run(12000)
    assert 20000 < len(harness.hub.files["/clips/0"]) < 80000
    harness.boot()
    harness.run(60000)
    assert bytes(harness.hub.files["/clips/0"]) == blob(100000)
    patches = harness.hub.requests.count("PATCH")
    assert sorted(harness.hub.requests) == ["HEAD"] + ["PATCH"] * patches + ["POST"], harness.hub.requests
    assert harness.hub.received < 100000 + 500 * len(harness.hub.requests)


def test_an_upload_that_is_unknown_to_the_hub_is_created_again():
    harness = UploadHarness([(1, "000001-000001.pls", blob(100000), False)])
    harness.queue.urls[(1, "000001-000001.pls")] = "/clips/unknown"
    harness.run(60000)
    assert bytes(harness.hub.files["/clips/0"]) == blob(100000)
    assert harness.hub.requests == ["HEAD", "POST", "PATCH"], harness.hub.requests


def altered_unless_empty(hub, alter):
    """Return a function that alters the offsets of an upload, but not that of an empty file."""
    return lambda offset: alter(offset) if offset or hub.sizes[max(hub.sizes)] else offset


def test_a_file_with_false_offsets_is_postponed_and_the_next_one_is_sent():
    for alter in (lambda n: n + 10**9, lambda n: "x", lambda n: "-1", lambda n: max(0, n - 1), lambda n: "9" * 40):
        harness = UploadHarness([(1, "000001-000001.pls", blob(40000), False), (2, "000002.plm", b"", False)])
        harness.hub.altered_offset = altered_unless_empty(harness.hub, alter)
        harness.run(600000)
        assert len(harness.hub.requests) < 20, harness.hub.requests
        assert (1, "000001-000001.pls") not in harness.queue.sent
        assert [line for line in harness.log if "retrying in 60 min" in line], harness.log


def test_bytes_that_the_hub_lost_are_sent_again():
    data = blob(800000)
    harness = UploadHarness([(1, "000001-000001.pls", data, False)], kbps=1000)
    for _ in range(4):  # after a power cut the hub, or its object storage, has fewer bytes than it acknowledged
        harness.run(3000)
        harness.hub.files["/clips/0"] = harness.hub.files["/clips/0"][:-20000]
        harness.uploader.disconnect()
    harness.run(600000)
    assert harness.hub.files["/clips/0"] == data and harness.hub.requests.count("POST") == 1
    assert harness.hub.received < 800000 + 4 * 65000, harness.hub.received


def test_an_upload_that_fails_repeatedly_is_created_again():
    for status, attempts in ((500, 9), (403, 1), (410, 1)):
        harness = UploadHarness([(1, "000001-000001.pls", blob(40000), False)])
        harness.queue.urls[(1, "000001-000001.pls")] = "/clips/broken"
        harness.hub.responses = [b"HTTP/1.1 %d X\r\n\r\n" % status] * attempts
        harness.run(3600000)
        assert harness.queue.sent and harness.hub.requests[:attempts] == ["HEAD"] * attempts, harness.hub.requests
        assert harness.hub.requests[attempts] == "POST", harness.hub.requests


def test_an_offset_beyond_the_sent_bytes_restarts_the_upload():
    harness = UploadHarness([(1, "000001-000001.pls", blob(200000), False)], kbps=400)
    harness.run(1000)
    harness.uploader.disconnect()
    harness.hub.responses = [b"HTTP/1.1 200 X\r\nUpload-Offset: 200000\r\n\r\n"]
    harness.run(60000)
    assert harness.queue.sent and harness.hub.requests.count("POST") == 2, harness.hub.requests
    assert bytes(harness.hub.files["/clips/1"]) == blob(200000)


def test_locations_in_all_forms_and_their_maximum_length():
    for location, path in (
        ("http://h/a/1", "/a/1"),
        ("https://h:1/a/1+2", "/a/1+2"),
        ("//h/a/1", "/a/1"),
        ("/a/" + "x" * 500, "/a/" + "x" * 500),
        ("/a/" + "x" * 600, None),
        ("/a/" + "x" * 3000, None),
        ("1", "/1"),
        ("clips/1", "/clips/1"),
        ("http://h", None),
        ("", None),
    ):
        client = tus.TusClient(KEY, b"dev-1", 3, "hub:1", "/clips")
        transfer = tus.Transfer(client, UploadItem(1, "000001.plm", 90000, "ab" * 32, False), None)
        transfer.next_request(UNIX_MS, 1000)
        response = tus.HttpResponse("POST")
        try:
            response.feed(("HTTP/1.1 201 X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location).encode())
            transfer.handle_response(response)
        except (tus.HttpError, tus.UploadRejectedError):
            pass
        assert transfer.url == path, (location, transfer.url)


def test_retry_after_of_a_busy_hub_is_obeyed():
    for status in (423, 429, 500, 503, 401):
        harness = UploadHarness([(1, "000001.plm", blob(90), False)])
        harness.hub.responses = [b"HTTP/1.1 %d X\r\nRetry-After: 30\r\nContent-Length: 2\r\n\r\nno" % status]
        harness.run(29000)
        assert not harness.queue.sent and len(harness.hub.requests) == 1
        harness.run(5000)
        assert harness.queue.sent, harness.log


def test_the_rate_limit_is_applied_to_short_intervals():
    harness = UploadHarness([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    burst_max = sent = 0
    while not harness.queue.sent and harness.now < 60000:
        harness.now += 20
        harness.uploader.step(harness.now, False, False)
        burst_max = max(burst_max, harness.hub.received - sent)
        sent = harness.hub.received
    assert 8000 < harness.now < 25000, harness.now  # the rate starts at a quarter, and includes headers
    assert burst_max <= 400 * 20 // 8 + 2 * BUFFER, burst_max


def test_uploads_pause_until_two_seconds_after_voice():
    harness = UploadHarness([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    harness.run(1500)
    received_before = harness.hub.received
    assert received_before > 10000
    harness.voice_busy = True
    harness.run(60000)
    harness.voice_busy = False
    harness.run(1000)
    assert harness.hub.received == received_before
    harness.run(2000)
    assert harness.hub.received > received_before
    harness.run(40000)
    assert harness.queue.sent and harness.hub.connections == 1


def test_uploads_pause_while_an_event_waits():
    harness = UploadHarness([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    harness.run(1000)
    received_before = harness.hub.received
    harness.urgent = True
    harness.run(5000)
    assert harness.hub.received == received_before
    harness.urgent = False
    harness.run(1000)
    assert harness.hub.received > received_before


def test_a_refused_connection_backs_off_and_an_interrupted_one_does_not():
    for number, backs_off in ((111, True), (125, False)):
        harness = UploadHarness([(1, "000001.plm", blob(90), False)])
        harness.hub.connect_error = number
        harness.run(400 if backs_off else 1)
        assert harness.hub.connections > 0 and len(harness.log) == harness.hub.connections
        harness.hub.connect_error = 0
        harness.run(99)
        assert bool(harness.queue.sent) != backs_off, harness.log
        harness.run(1000)
        assert harness.queue.sent, harness.log


def test_a_file_of_an_sos_interrupts_another_upload():
    harness = UploadHarness([(1, "000001-000001.pls", blob(300000), False)])
    harness.run(400)
    harness.queue.files.insert(0, (2, "000001-000009.pls", blob(5000, 9), True))
    harness.run(60000)
    assert harness.queue.sent == [(2, "000001-000009.pls"), (1, "000001-000001.pls")]
    assert bytes(harness.hub.files["/clips/0"]) == blob(300000)


def test_invalid_and_oversized_responses_are_rejected():
    for text in (
        b"garbage\n",
        b"HTTP/1.1 abc X\r\n",
        b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 2000,
        b"HTTP/1.1 200 X\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
        b"HTTP/1.1 204 X\r\n\r\nmore",
        b"x" * 10000,
    ):
        response = tus.HttpResponse("PATCH")
        try:
            response.feed(text)
        except tus.HttpError:
            continue
        raise AssertionError(text[:40])


def test_random_responses_raise_http_error_only():
    rng = random.Random(5) if hasattr(random, "Random") else random
    good = b"HTTP/1.1 200 OK\r\nUpload-Offset: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            tus.HttpResponse("GET").feed(bytes(data))
        except tus.HttpError:
            pass


def test_an_sos_skips_the_back_off():
    harness = UploadHarness([(1, "000001.plm", blob(90), False)])
    harness.hub.connect_error = 111
    harness.run(60000)
    harness.hub.connect_error = 0
    start_ms = harness.now
    assert harness.uploader.step(start_ms, False, False) > 500  # backing off
    harness.uploader.retry_now()
    # Without an SOS, retry_now() does not skip the back-off.
    assert harness.uploader.step(start_ms, False, False) > 500
    harness.uploader.retry_now(True)
    harness.run(60000)
    assert harness.queue.sent and harness.now - start_ms < 500
