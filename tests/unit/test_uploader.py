"""Uploads of clips: tus spoken right, cut anywhere, lied to, and out of the way of voice, on both runtimes."""

import hashlib
import random

from agent.link.backoff import Backoff
from agent.recording.clip_index import UploadItem
from agent.upload import tus
from agent.upload.uploader import BUFFER, Uploader, UploadNetwork
from tus_hub import KEY, Hub

UNIX_MS = 1795000000000


class ClipStore:
    """Contract C6, files in memory."""

    def __init__(self, files):
        self.files = files  # (clip, name, bytes, sos), the most important first
        self.places = {}
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

    def uploaded(self, clip, name):
        self.sent.append((clip, name))

    def place(self, clip, name, url=None):
        if url is not None:
            self.places[(clip, name)] = url
        return self.places.get((clip, name))


class World:
    def __init__(self, files, kbps=8000, seed=1):
        self.rng = random.Random(seed) if hasattr(random, "Random") else random
        if self.rng is random:
            random.seed(seed)
        self.now = 0
        self.hub = Hub()
        self.shelf = ClipStore(files)
        self.busy = self.urgent = False
        self.log = []
        self.kbps = kbps
        self.boot()

    def boot(self):
        client = tus.TusClient(KEY, b"dev-1", 3, "hub:1", "/clips")
        net = UploadNetwork(lambda: self.now, lambda: None, self.hub.connection, lambda: self.urgent)
        backoff = Backoff(lambda n: self.rng.randrange(n))
        self.uploader = Uploader(
            self.shelf, client, net, ("hub", 1), self.kbps, lambda now: UNIX_MS + now, backoff, self.log.append
        )

    def run(self, ms):
        """Step until all is sent or so much time has gone."""
        until = self.now + ms
        while self.now < until and len(self.shelf.sent) < len(self.shelf.files):
            self.now += max(1, min(self.uploader.step(self.now, self.busy, self.urgent), until - self.now))


def blob(n, seed=1):
    out = bytearray()
    while len(out) < n:
        seed += 1
        out += hashlib.sha256(str(seed).encode()).digest()
    return bytes(out[:n])


def test_files_arrive_in_order_and_a_small_one_costs_one_request():
    world = World([(7, "000007.plm", blob(900), False), (7, "000001-000002.pls", blob(300000), False)])
    world.run(60000)
    assert world.shelf.sent == [(7, "000007.plm"), (7, "000001-000002.pls")]
    assert [bytes(world.hub.files["/clips/%d" % i]) for i in (0, 1)] == [blob(900), blob(300000)]
    assert world.hub.requests == ["POST", "POST"] + ["PATCH"] * 3, world.hub.requests
    assert world.hub.metadata["/clips/0"].startswith("device ZGV2LTE=,clip Nw==,name MDAwMDA3LnBsbQ==,sha256 ")


def test_an_empty_file_arrives():
    world = World([(1, "000001.plm", b"", False)])
    world.run(10000)
    assert world.shelf.sent and world.hub.requests == ["POST"]


def test_cut_anywhere_it_goes_on_at_the_byte_that_the_hub_has():
    for seed in range(20):
        world = World([(1, "000001-000001.pls", blob(200000), False)], seed=seed)
        world.hub.cut_after = lambda: world.rng.randrange(300, 60000)  # noqa: B023
        world.run(3600000)
        assert len(world.shelf.sent) == 1, (seed, world.log[-3:])
        assert bytes(world.hub.files[world.shelf.places[(1, "000001-000001.pls")]]) == blob(200000), seed
        assert world.hub.taken < 200000 + 1000 * len(world.hub.requests), (seed, world.hub.taken)


def test_a_small_file_goes_in_pieces_where_it_is_cut_off_before_it_is_through():
    world = World([(1, "000001-000001.pls", blob(30000), False)])
    world.hub.cut_after = lambda: 12000
    world.run(600000)
    assert bytes(world.hub.files[world.shelf.places[(1, "000001-000001.pls")]]) == blob(30000)
    assert world.shelf.sent and world.hub.taken < 12000 + 30000 + 500 * len(world.hub.requests), world.hub.requests


def test_after_a_boot_it_goes_on():
    world = World([(1, "000001-000001.pls", blob(100000), False)], kbps=100)
    world.run(12000)
    assert 20000 < len(world.hub.files["/clips/0"]) < 80000
    world.boot()
    world.run(60000)
    assert bytes(world.hub.files["/clips/0"]) == blob(100000)
    patches = world.hub.requests.count("PATCH")
    assert sorted(world.hub.requests) == ["HEAD"] + ["PATCH"] * patches + ["POST"], world.hub.requests
    assert world.hub.taken < 100000 + 500 * len(world.hub.requests)


def test_an_upload_that_the_hub_forgot_is_made_anew():
    world = World([(1, "000001-000001.pls", blob(100000), False)])
    world.shelf.places[(1, "000001-000001.pls")] = "/clips/gone"
    world.run(60000)
    assert bytes(world.hub.files["/clips/0"]) == blob(100000)
    assert world.hub.requests == ["HEAD", "POST", "PATCH"], world.hub.requests


def test_a_lying_hub_is_given_up_and_the_next_file_goes():
    for lie in (lambda n: n + 10**9, lambda n: "x", lambda n: "-1", lambda n: max(0, n - 1), lambda n: "9" * 40):
        world = World([(1, "000001-000001.pls", blob(40000), False), (2, "000002.plm", b"", False)])
        world.hub.lie = lambda n, lie=lie: lie(n) if n or world.hub.sizes[max(world.hub.sizes)] else n  # noqa: B023
        world.run(600000)
        assert len(world.hub.requests) < 20, world.hub.requests
        assert (1, "000001-000001.pls") not in world.shelf.sent
        assert [line for line in world.log if "does not go" in line], world.log


def test_a_hub_that_lost_some_of_a_file_is_sent_it_from_there_on():
    world = World([(1, "000001-000001.pls", blob(800000), False)], kbps=1000)
    for _ in range(4):  # it was cut from its power, or from object storage behind it, and has less than it said
        world.run(3000)
        world.hub.files["/clips/0"] = world.hub.files["/clips/0"][:-20000]
        world.uploader.hang_up()
    world.run(600000)
    assert bytes(world.hub.files["/clips/0"]) == blob(800000) and world.hub.requests.count("POST") == 1
    assert world.hub.taken < 800000 + 4 * 65000, world.hub.taken


def test_a_hub_that_fails_with_one_upload_for_ever_gets_another():
    for status, asked in ((500, 9), (403, 1), (410, 1)):
        world = World([(1, "000001-000001.pls", blob(40000), False)])
        world.shelf.places[(1, "000001-000001.pls")] = "/clips/broken"
        world.hub.answers = [b"HTTP/1.1 %d X\r\n\r\n" % status] * asked
        world.run(3600000)
        assert world.shelf.sent and world.hub.requests[:asked] == ["HEAD"] * asked, world.hub.requests
        assert world.hub.requests[asked] == "POST", world.hub.requests


def test_a_hub_that_has_what_it_was_not_sent_is_not_believed():
    world = World([(1, "000001-000001.pls", blob(200000), False)], kbps=400)
    world.run(1000)
    world.uploader.hang_up()
    world.hub.answers = [b"HTTP/1.1 200 X\r\nUpload-Offset: 200000\r\n\r\n"]
    world.run(60000)
    assert world.shelf.sent and world.hub.requests.count("POST") == 2, world.hub.requests
    assert bytes(world.hub.files["/clips/1"]) == blob(200000)


def test_an_uploads_address_in_every_form_and_no_longer_than_is_kept():
    for where, path in (
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
        transfer.ask(UNIX_MS, 1000)
        reply = tus.HttpResponse("POST")
        try:
            reply.take(("HTTP/1.1 201 X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % where).encode())
            transfer.take(reply)
        except (tus.HttpError, tus.UploadRejectedError):
            pass
        assert transfer.url == path, (where, transfer.url)


def test_busy_hub_is_waited_for():
    for status in (423, 429, 500, 503, 401):
        world = World([(1, "000001.plm", blob(90), False)])
        world.hub.answers = [b"HTTP/1.1 %d X\r\nRetry-After: 30\r\nContent-Length: 2\r\n\r\nno" % status]
        world.run(29000)
        assert not world.shelf.sent and len(world.hub.requests) == 1
        world.run(5000)
        assert world.shelf.sent, world.log


def test_the_rate_is_kept_in_small_bursts():
    world = World([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    most = before = 0
    while not world.shelf.sent and world.now < 60000:
        world.now += 20
        world.uploader.step(world.now, False, False)
        most = max(most, world.hub.taken - before)
        before = world.hub.taken
    assert 8000 < world.now < 25000, world.now  # a quarter of the rate at first, and headers count
    assert most <= 400 * 20 // 8 + 2 * BUFFER, most


def test_voice_has_the_way_for_itself_and_two_seconds_more():
    world = World([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    world.run(1500)
    taken = world.hub.taken
    assert taken > 10000
    world.busy = True
    world.run(60000)
    world.busy = False
    world.run(1000)
    assert world.hub.taken == taken
    world.run(2000)
    assert world.hub.taken > taken
    world.run(40000)
    assert world.shelf.sent and world.hub.connections == 1


def test_an_event_that_waits_has_the_way():
    world = World([(1, "000001-000001.pls", blob(400000), False)], kbps=400)
    world.run(1000)
    taken = world.hub.taken
    world.urgent = True
    world.run(5000)
    assert world.hub.taken == taken
    world.urgent = False
    world.run(1000)
    assert world.hub.taken > taken


def test_a_hub_that_refuses_is_waited_for_and_an_event_that_ends_the_connecting_is_not():
    for number, waited in ((111, True), (125, False)):
        world = World([(1, "000001.plm", blob(90), False)])
        world.hub.refuses = number
        world.run(400 if waited else 1)
        assert world.hub.connections > 0 and len(world.log) == world.hub.connections
        world.hub.refuses = 0
        world.run(99)
        assert bool(world.shelf.sent) != waited, world.log
        world.run(1000)
        assert world.shelf.sent, world.log


def test_a_file_of_an_sos_goes_before_the_rest_of_another():
    world = World([(1, "000001-000001.pls", blob(300000), False)])
    world.run(400)
    world.shelf.files.insert(0, (2, "000001-000009.pls", blob(5000, 9), True))
    world.run(60000)
    assert world.shelf.sent == [(2, "000001-000009.pls"), (1, "000001-000001.pls")]
    assert bytes(world.hub.files["/clips/0"]) == blob(300000)


def test_answers_are_bounded():
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
        reply = tus.HttpResponse("PATCH")
        try:
            reply.take(text)
        except tus.HttpError:
            continue
        raise AssertionError(text[:40])


def test_any_bytes_are_an_answer_or_a_fault():
    rng = random.Random(5) if hasattr(random, "Random") else random
    good = b"HTTP/1.1 200 OK\r\nUpload-Offset: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            tus.HttpResponse("GET").take(bytes(data))
        except tus.HttpError:
            pass


def test_an_sos_does_not_sit_out_what_the_hub_failed_before():
    world = World([(1, "000001.plm", blob(90), False)])
    world.hub.refuses = 111
    world.run(60000)
    world.hub.refuses = 0
    began = world.now
    assert world.uploader.step(began, False, False) > 500  # it waits
    world.uploader.hurry()
    assert world.uploader.step(began, False, False) > 500  # for what is new only, as before
    world.uploader.hurry(True)
    world.run(60000)
    assert world.shelf.sent and world.now - began < 500
