"""SRTP is interoperable with libsrtp in both directions, on both runtimes."""

import random
import struct
import subprocess
from pathlib import Path

import pytest
from patrolink.core import errors, resources
from pylibsrtp import Error, Policy, Session

from tests.support.polling import TIMEOUT_S

SEED = 3711
KEY, SALT = bytes(range(16)), bytes(range(100, 114))
OTHER_KEY = bytes(30)
SSRC = 0x12345678
LENGTHS = (0, 1, 15, 16, 17, 80, 160, 480, 960)


class SrtpPipe:
    """patrolink_protocol.srtp in a separate process (srtp_pipe.py)."""

    def __init__(self, runtime: str) -> None:
        command = [*resources.interpreter(runtime), str(Path(__file__).parent / "srtp_pipe.py"), KEY.hex(), SALT.hex()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words) -> bytes | str:
        line = [word.hex() if isinstance(word, bytes) else str(word) for word in words]
        self.process.stdin.write(" ".join(line) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the pipe ended at {words[0]}"
        return answer if answer.startswith("refused") else bytes.fromhex(answer)

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(TIMEOUT_S) == 0


@pytest.fixture(params=["cpython", "micropython"])
def pipe(request):
    try:
        process = SrtpPipe(request.param)
    except errors.DeviceError as e:
        pytest.skip(str(e))
    yield process
    process.close()


def libsrtp(inbound: bool, master: bytes = KEY + SALT) -> Session:
    kind = Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND
    profile = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
    return Session(Policy(key=master, ssrc_type=kind, srtp_profile=profile))


def rtp(sequence: int, payload: bytes, first_byte: int = 0x80, extra: bytes = b"") -> bytes:
    return struct.pack(">BBHII", first_byte, 0x88, sequence, sequence * 160, SSRC) + extra + payload


def packets(rng: random.Random) -> list[bytes]:
    """Return a packet of each length, with and without CSRCs and a header extension."""
    result = []
    for n in LENGTHS:
        for first_byte, extra in ((0x80, b""), (0x82, rng.randbytes(8)), (0x90, b"\xbe\xde\0\2" + rng.randbytes(8))):
            result.append(rtp(len(result), rng.randbytes(n), first_byte, extra))
    return result


def reports(rng: random.Random) -> list[bytes]:
    """Return RTCP packets of several lengths: an empty receiver report, APP packets, and a compound packet."""
    report = struct.pack(">BBHI", 0x80, 201, 1, SSRC)
    apps = [
        struct.pack(">BBHI4s", 0x80 | i, 204, 2 + n // 4, SSRC, b"MCPT") + rng.randbytes(n)
        for i, n in enumerate((0, 4, 8, 20, 96, 256))
    ]
    return [report, *apps, apps[1] + apps[3]]


def test_rtp_is_interoperable_in_both_directions(pipe):
    sender, receiver = libsrtp(inbound=False), libsrtp(inbound=True)
    for packet in packets(random.Random(SEED)):
        protected = pipe("rtp", 0, packet)
        assert receiver.unprotect(protected) == packet
        assert sender.protect(packet) == protected  # identical, not only valid
        assert pipe("open-rtp", protected) == packet


def test_packets_are_protected_and_opened_across_roll_overs(pipe):
    sender, receiver = libsrtp(inbound=False), libsrtp(inbound=True)
    rng = random.Random(SEED)
    index = 0
    while index < 5 << 16:
        packet = rtp(index & 0xFFFF, rng.randbytes(160))
        protected = pipe("rtp", index >> 16, packet)
        assert receiver.unprotect(protected) == packet, f"seed {SEED}, index {index}"
        assert sender.protect(packet) == protected, f"seed {SEED}, index {index}"
        assert pipe("open-rtp", protected) == packet, f"seed {SEED}, index {index}"
        index += rng.randrange(1, 32768)


def test_reordered_packets_at_a_roll_over_are_opened(pipe):
    sender = libsrtp(inbound=False)
    sent = {}
    for index in (0, 30000, 60000, *range(65530, 65542)):
        packet = rtp(index & 0xFFFF, b"%d" % index)
        sent[index] = (packet, sender.protect(packet))
    for index in (0, 30000, 60000, 65530, 65537, 65535, 65531, 65541, 65536, 65534):
        assert pipe("open-rtp", sent[index][1]) == sent[index][0], index


def test_rtcp_is_interoperable_in_both_directions(pipe):
    sender, receiver = libsrtp(inbound=False), libsrtp(inbound=True)
    for i, packet in enumerate(reports(random.Random(SEED))):
        index = 0x7FFF_FFF0 + i if i % 2 else 70_000 * i
        assert libsrtp(inbound=True).unprotect_rtcp(pipe("rtcp", index, packet)) == packet
        protected = sender.protect_rtcp(packet)
        assert pipe("open-rtcp", protected) == packet
        assert receiver.unprotect_rtcp(pipe("rtcp", i, packet)) == packet


def test_wrong_keys_and_damage_are_rejected(pipe):
    rng = random.Random(SEED)
    packet, report = rtp(7, rng.randbytes(160)), reports(rng)[3]
    assert pipe("open-rtp", libsrtp(False, OTHER_KEY).protect(packet)) == "refused tag"
    assert pipe("open-rtcp", libsrtp(False, OTHER_KEY).protect_rtcp(report)) == "refused tag"
    with pytest.raises(Error):
        libsrtp(True, OTHER_KEY).unprotect(pipe("rtp", 0, packet))
    with pytest.raises(Error):
        libsrtp(True, OTHER_KEY).unprotect_rtcp(pipe("rtcp", 1, report))
    for protected, operation, opener in (
        (pipe("rtp", 0, packet), "open-rtp", lambda s: s.unprotect),
        (pipe("rtcp", 1, report), "open-rtcp", lambda s: s.unprotect_rtcp),
    ):
        for _ in range(40):
            damaged = bytearray(protected)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            damaged = bytes(damaged)[: rng.choice((len(damaged), rng.randrange(1, len(damaged))))]
            assert str(pipe(operation, damaged)).startswith("refused"), (SEED, damaged.hex())
            with pytest.raises(Error):
                opener(libsrtp(True))(damaged)


def test_replays_are_rejected(pipe):
    sender, receiver = libsrtp(inbound=False), libsrtp(inbound=True)
    packet, report = rtp(1, b"voice"), reports(random.Random(SEED))[1]
    protected = sender.protect(packet)
    assert pipe("open-rtp", protected) == packet and pipe("open-rtp", protected) == "refused replay"
    protected = sender.protect_rtcp(report)
    assert pipe("open-rtcp", protected) == report and pipe("open-rtcp", protected) == "refused replay"
    protected = pipe("rtp", 0, packet)
    receiver.unprotect(protected)
    with pytest.raises(Error):
        receiver.unprotect(protected)
