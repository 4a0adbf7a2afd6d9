"""libsrtp, an implementation of others, opens what ours protects and the other way round, on both runtimes."""

import random
import struct
import subprocess
from pathlib import Path

import pytest
from patrolink.core import errors, resources
from pylibsrtp import Error, Policy, Session

SEED = 3711
KEY, SALT = bytes(range(16)), bytes(range(100, 114))
OTHER = bytes(30)
SSRC = 0x12345678
LENGTHS = (0, 1, 15, 16, 17, 80, 160, 480, 960)


class Ours:
    """patrolink_protocol.srtp in a process of its own."""

    def __init__(self, runtime: str) -> None:
        command = [*resources.interpreter(runtime), str(Path(__file__).parent / "srtp_pipe.py"), KEY.hex(), SALT.hex()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words) -> bytes | str:
        said = [word.hex() if isinstance(word, bytes) else str(word) for word in words]
        self.process.stdin.write(" ".join(said) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the pipe ended at {words[0]}"
        return answer if answer.startswith("refused") else bytes.fromhex(answer)

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0


@pytest.fixture(params=["cpython", "micropython"])
def ours(request):
    try:
        it = Ours(request.param)
    except errors.DeviceError as e:
        pytest.skip(str(e))
    yield it
    it.close()


def theirs(inbound: bool, master: bytes = KEY + SALT) -> Session:
    kind = Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND
    profile = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
    return Session(Policy(key=master, ssrc_type=kind, srtp_profile=profile))


def rtp(sequence: int, payload: bytes, first: int = 0x80, more: bytes = b"") -> bytes:
    return struct.pack(">BBHII", first, 0x88, sequence, sequence * 160, SSRC) + more + payload


def packets(rnd: random.Random) -> list[bytes]:
    """Each length, with and without sources and a header extension."""
    out = []
    for n in LENGTHS:
        for first, more in ((0x80, b""), (0x82, rnd.randbytes(8)), (0x90, b"\xbe\xde\0\2" + rnd.randbytes(8))):
            out.append(rtp(len(out), rnd.randbytes(n), first, more))
    return out


def reports(rnd: random.Random) -> list[bytes]:
    """RTCP of several lengths: an empty receiver report, APP packets, two in one."""
    report = struct.pack(">BBHI", 0x80, 201, 1, SSRC)
    apps = [
        struct.pack(">BBHI4s", 0x80 | i, 204, 2 + n // 4, SSRC, b"MCPT") + rnd.randbytes(n)
        for i, n in enumerate((0, 4, 8, 20, 96, 256))
    ]
    return [report, *apps, apps[1] + apps[3]]


def test_rtp_both_ways(ours):
    out, back = theirs(inbound=False), theirs(inbound=True)
    for packet in packets(random.Random(SEED)):
        protected = ours("rtp", 0, packet)
        assert back.unprotect(protected) == packet
        assert out.protect(packet) == protected  # the same bytes, not only bytes that open
        assert ours("open-rtp", protected) == packet


def test_the_sequence_number_rolls_over_many_times(ours):
    out, back = theirs(inbound=False), theirs(inbound=True)
    rnd = random.Random(SEED)
    index = 0
    while index < 5 << 16:
        packet = rtp(index & 0xFFFF, rnd.randbytes(160))
        protected = ours("rtp", index >> 16, packet)
        assert back.unprotect(protected) == packet, f"seed {SEED}, index {index}"
        assert out.protect(packet) == protected, f"seed {SEED}, index {index}"
        assert ours("open-rtp", protected) == packet, f"seed {SEED}, index {index}"
        index += rnd.randrange(1, 32768)


def test_packets_that_overtake_each_other_at_a_roll_over(ours):
    out = theirs(inbound=False)
    sent = {}
    for index in (0, 30000, 60000, *range(65530, 65542)):
        packet = rtp(index & 0xFFFF, b"%d" % index)
        sent[index] = (packet, out.protect(packet))
    for index in (0, 30000, 60000, 65530, 65537, 65535, 65531, 65541, 65536, 65534):
        assert ours("open-rtp", sent[index][1]) == sent[index][0], index


def test_rtcp_both_ways(ours):
    out, back = theirs(inbound=False), theirs(inbound=True)
    for i, packet in enumerate(reports(random.Random(SEED))):
        index = 0x7FFF_FFF0 + i if i % 2 else 70_000 * i
        assert theirs(inbound=True).unprotect_rtcp(ours("rtcp", index, packet)) == packet
        protected = out.protect_rtcp(packet)
        assert ours("open-rtcp", protected) == packet
        assert back.unprotect_rtcp(ours("rtcp", i, packet)) == packet


def test_wrong_keys_and_damage_are_refused_by_both(ours):
    rnd = random.Random(SEED)
    packet, report = rtp(7, rnd.randbytes(160)), reports(rnd)[3]
    assert ours("open-rtp", theirs(False, OTHER).protect(packet)) == "refused tag"
    assert ours("open-rtcp", theirs(False, OTHER).protect_rtcp(report)) == "refused tag"
    with pytest.raises(Error):
        theirs(True, OTHER).unprotect(ours("rtp", 0, packet))
    with pytest.raises(Error):
        theirs(True, OTHER).unprotect_rtcp(ours("rtcp", 1, report))
    for whole, ask, opens in (
        (ours("rtp", 0, packet), "open-rtp", lambda s: s.unprotect),
        (ours("rtcp", 1, report), "open-rtcp", lambda s: s.unprotect_rtcp),
    ):
        for _ in range(40):
            bad = bytearray(whole)
            bad[rnd.randrange(len(bad))] ^= 1 << rnd.randrange(8)
            bad = bytes(bad)[: rnd.choice((len(bad), rnd.randrange(1, len(bad))))]
            assert str(ours(ask, bad)).startswith("refused"), (SEED, bad.hex())
            with pytest.raises(Error):
                opens(theirs(True))(bad)


def test_a_replay_is_refused_by_both(ours):
    out, back = theirs(inbound=False), theirs(inbound=True)
    packet, report = rtp(1, b"voice"), reports(random.Random(SEED))[1]
    protected = out.protect(packet)
    assert ours("open-rtp", protected) == packet and ours("open-rtp", protected) == "refused replay"
    protected = out.protect_rtcp(report)
    assert ours("open-rtcp", protected) == report and ours("open-rtcp", protected) == "refused replay"
    protected = ours("rtp", 0, packet)
    back.unprotect(protected)
    with pytest.raises(Error):
        back.unprotect(protected)
