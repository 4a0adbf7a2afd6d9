"""Frames on a serial line: CRC and COBS (SPEC.md, "Carriage")."""

import binascii

import patrolink_messages as m
from cobs import cobs

from patrolink.conformance.case import WRONG_ANSWER, Case, Context, Judgement, failed, passed
from patrolink.conformance.evidence import Evidence, ask, canonical
from patrolink.conformance.expect import case, mismatch
from patrolink.conformance.frames import SHORT_BODY, seal
from patrolink.core.text import plural

SHORT = seal(m.TEXT_STATE, SHORT_BODY)
_PACKING, _IDLE, _INVALID = "SERIAL-1", "SERIAL-2", "SERIAL-3"


def packet(frame: bytes, wrong_crc: int = 0) -> bytes:
    """Return a frame as sent on a line."""
    check = binascii.crc_hqx(frame, 0xFFFF) ^ wrong_crc
    return bytes(cobs.encode(frame + check.to_bytes(2, "big"))) + b"\x00"


def cases() -> list[Case]:
    """Return the cases."""
    return [*_packed(), *_unpacked()]


def _frames() -> list[bytes]:
    """Return frames whose packets have each form of COBS block."""
    bodies = [
        bytes(40),
        b"\x01" * 250,
        b"\x01" * 251,
        b"\x01" * 252,
        b"\xff" * 300,
        bytes(range(1, 255)) * 2,
        bytes(700),
    ]
    return [SHORT, *(seal(m.TEXT_STATE, SHORT_BODY + body) for body in bodies)]


def _raw() -> list[bytes]:
    """Return bytes that are no frames, but make blocks of 253 to 255 bytes with and without a zero at the end."""
    result = []
    for n in (1, 2, 251, 252, 253, 254, 255, 508, 1022, 1024):
        for data in (b"\x02" * n, b"\x02" * (n - 1) + b"\x00", b"\x00" + b"\x02" * (n - 1)):
            result.append(data)
    return result


def _random_stream(context: Context) -> tuple[list[bytes], list[str]]:
    """Return the pieces of a stream of good and bad packets, and the frames of the good ones."""
    random = context.random()
    data, expected = b"", []
    for _ in range(40):
        frame = seal(m.TEXT_STATE, SHORT_BODY + random.randbytes(random.randrange(600)), random.randrange(1000))
        good = random.random() < 0.7
        data += b"\x00" * random.randrange(3) + packet(frame, 0 if good else random.randrange(1, 65_536))
        expected += [frame.hex()] if good else []
    cuts = sorted(random.randrange(len(data)) for _ in range(60))
    ends = [0, *cuts, len(data)]
    return [data[a:b] for a, b in zip(ends, ends[1:], strict=False) if a < b], expected


def _judge_random(context: Context, evidence: Evidence) -> Judgement:
    got = [frame for answer in evidence.answers()[1:] for frame in answer.get("frames", [])]
    expected = _random_stream(context)[1]
    return (
        passed()
        if got == expected
        else failed(WRONG_ANSWER, f"{plural(len(got), 'frame')}, expected {len(expected)}, or others")
    )


def _packed() -> list[Case]:
    def of(title: str, samples: list[bytes]) -> Case:
        def judge(context: Context, evidence: Evidence) -> Judgement:
            for frame, got in zip(samples, evidence.answers(), strict=True):
                fault = mismatch(got, {"packet": packet(frame).hex()})
                if fault:
                    return failed(WRONG_ANSWER, f"a frame of {plural(len(frame), 'byte')}: {fault}")
            return passed()

        return case(
            title, _PACKING, lambda context: [ask(f"P {frame.hex()}") for frame in samples], judge, claim="serial"
        )

    return [of("frames as packets of a serial line", _frames()), of("blocks of 253 to 255 bytes as packets", _raw())]


def _unpacked() -> list[Case]:
    one, two = packet(SHORT), packet(_frames()[3])
    frames = [SHORT.hex(), _frames()[3].hex()]

    def of(title: str, pieces: list[bytes], expected: list[str], invalid: int | None = 0) -> Case:
        """Return a case that feeds pieces; a zero byte first ends what an earlier case has left."""
        steps = [ask("U 00"), *(ask(f"U {piece.hex()}") for piece in pieces)]

        def judge(context: Context, evidence: Evidence) -> Judgement:
            answers = evidence.answers()[1:]
            got = [frame for answer in answers for frame in answer.get("frames", [None])]
            bad = sum(answer.get("invalid", -1000) for answer in answers)
            if got != expected:
                return failed(WRONG_ANSWER, f"got the frames {canonical(got)}, expected {canonical(expected)}")
            if invalid is not None and bad != invalid:
                return failed(WRONG_ANSWER, f"{bad} invalid packets, expected {invalid}")
            return passed()

        requirement = _INVALID if invalid else _IDLE if "idle" in title else _PACKING
        return case(title, requirement, lambda context: steps, judge, claim="serial")

    every = [bytes([byte]) for byte in one + two]
    raw = [data for data in _raw() if len(data) > 0]
    return [
        of("packets in one piece", [one + two], frames),
        of("packets byte by byte", every, frames),
        of("an idle line of zero bytes between packets", [bytes(50) + one + bytes(300) + two + bytes(3)], frames),
        of("a wrong CRC", [packet(SHORT, 1) + packet(SHORT, 0x8000) + one], frames[:1], 2),
        of(
            "noise before a packet: the next one is found",
            [b"\x05\x41\x42\x43\x00" + b"\xff\x01\x00" + one],
            frames[:1],
            2,
        ),
        of("a packet that is cut by the next one", [one[:9] + b"\x00" + two], frames[1:], 1),
        of("a block that points past the end of its packet", [bytes([len(one) + 20]) + one[1:] + one], frames[:1], 1),
        of("packets of 1 and 2 bytes", [b"\x01\x00\x02\x41\x00" + b"\x03\x41\x42\x00" + one], frames[:1], 3),
        of("10,000 bytes without a zero, then a packet", [b"\x01" * 5000, b"\xff" * 5000, b"\x00", one], frames[:1], 1),
        of(
            "a packet of 1025 bytes, then one of 1024",
            [packet(b"\x03" * 1025) + packet(b"\x03" * 1024)],
            ["03" * 1024],
            1,
        ),
        of("packets of all forms of blocks", [b"".join(packet(data) for data in raw)], [data.hex() for data in raw]),
        of("packets of frames of all sizes", [b"".join(map(packet, _frames()))], [frame.hex() for frame in _frames()]),
        case(
            "random packets, pieces, idle bytes and wrong CRCs",
            _INVALID,
            lambda context: [ask("U 00"), *(ask(f"U {piece.hex()}") for piece in _random_stream(context)[0])],
            _judge_random,
            claim="serial",
        ),
    ]
