"""Cut the power of a recorder anywhere in many seeded lives, start it again, and hold it to what it promises.

python tests/simulation/clip_cuts.py [CUTS]     1,000 unless said

A life records at 5 pictures a second, with events, snapshots and accesses at random; an operation is a byte written,
a file made, moved or removed. The power goes in the recoveries, too, up to three times. After that: each clip is
sealed, chained to the one before and signed; each file is as its line says; all but the last segment have their end;
none of an event's pictures is missing but those of the last seconds; it records again within 2 s, and the next clip
goes on from the last one.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for room in ("tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / room))

from clip_harness import CONFIG, ClipHarness  # noqa: E402
from cryptography.exceptions import InvalidSignature  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from memory_storage import PowerCut  # noqa: E402
from patrolink_protocol import clip  # noqa: E402
from seeded_random import seeded  # noqa: E402

LIFE_OPERATIONS = 260_000
RECOVERY_OPERATIONS = 1_500
BACK_S = 2


def verify(signer: str, chain: bytes, signature: bytes) -> bool:
    """Return whether a manifest's signature is right."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(signer))
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(der, clip.signature_digest(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def live(harness: ClipHarness, seed: int, seconds: float = 45) -> None:
    """Record with events at random; harness.events has (clip, monotonic ms) of each as they come.

    In every second life the storage is late: what the power cuts is a second of what was given to it, too.
    """
    below = seeded(seed)
    slow = seed % 2 == 1
    harness.files.behind = [] if slow else None
    events = harness.events = []
    until = harness.now + seconds * 1000
    while harness.now < until:
        harness.run(0.5, (lambda: harness.files.work(1 + below(2))) if slow else None)
        what = below(24)
        if what < 2:
            events.append((harness.recorder.trigger(what, 1000 + len(events), "", harness.now), harness.now))
        elif what == 2:
            harness.recorder.snapshot("duty", harness.now)
        elif what == 3:
            harness.recorder.stop("duty", harness.now)
        elif what == 4:
            harness.store.open_clips.log_access("live_view_start", "duty", harness.now)


def check(harness: ClipHarness, where: object) -> None:
    """Every clip on storage is right: after a recovery, all of them are sealed."""
    previous = None
    for number in sorted(int(n[:6]) for n in harness.files.data if n.endswith(".plm")):
        said = harness.manifest(number)
        assert "sig" in said[-1] and [s for s in said if "close" in s] == [said[-2]], (where, number)
        assert previous is None or said[0]["previous"] == previous, (where, number)
        previous = said[-1]["chain"]
        assert verify(said[0]["signer"], bytes.fromhex(previous), bytes.fromhex(said[-1]["sig"])), (where, number)
        segments = harness.segments(number)
        assert [s["seg"] for s in segments] == sorted(s["seg"] for s in segments), (where, number)
        for s, after in zip(segments, segments[1:] + [None] * bool(segments), strict=True):
            assert s["seg"] + ".pls" in harness.files.data, (where, number, s)
            read = harness.read(s["seg"] + ".pls")
            assert read.complete or not s["whole"], (where, number, s)
            assert not s["whole"] or len(read.pictures()) == s["frames"] or said[0]["codec"] == "jpeg", (where, s)
            # One that had its end when its line was still on the way is told as not whole, and yet it is.
            assert read.complete or after is None or after["seg"][:6] != s["seg"][:6], (where, number, s)
        if said[0]["codec"] != "jpeg":
            in_order(harness, segments, (where, number))


def in_order(harness: ClipHarness, segments: list[dict[str, str]], where: object) -> None:
    """No picture is missing between the first and the last of one boot."""
    for boot in {s["seg"][:6] for s in segments}:
        numbers = [n for s in segments if s["seg"][:6] == boot for n in harness.read(s["seg"] + ".pls").pictures()]
        assert numbers == list(range(min(numbers, default=0), min(numbers, default=0) + len(numbers))), where


def kept(
    harness: ClipHarness, events: list[tuple[int, int]], given: list[tuple[int, int]], end: int, where: object
) -> None:
    """Of every event whose clip was told to storage, no picture is missing but those of the last moment."""
    there = set()
    for name in harness.files.data:
        if name.endswith(".plm"):
            there.update(harness.pictures(int(name[:6])))
    slack = 1500  # what was in a block that was not full, and what storage was late by
    for number, at in events:
        if f"{number:06d}.plm" in harness.files.data:
            for n, ms in given:
                if at - CONFIG["pre_s"] * 1000 <= ms < min(at + CONFIG["post_s"] * 1000, end - slack):
                    assert n in there, (where, number, at, n, ms)


def cut(seed: int, operations: int) -> tuple[bool, float, int, int]:
    """Return (the life ended before, seconds that the start took, clips, recoveries that were cut)."""
    where = f"seed {seed}, cut after {operations} operations"
    harness = ClipHarness().boot()
    harness.files.left = operations
    ended = True
    try:
        live(harness, seed)
    except PowerCut:
        ended = False
    harness.files.left = harness.files.behind = None
    events, given, end = harness.events, harness.camera.taken, harness.now
    again, cuts = seeded(seed + operations), 0
    for _ in range(again(4)):
        harness.files.left = again(RECOVERY_OPERATIONS)
        try:
            harness.boot()
        except PowerCut:
            cuts += 1
    harness.files.left = None
    start = time.perf_counter()
    harness.boot()
    took = time.perf_counter() - start
    check(harness, where)
    kept(harness, events, given, end, where)
    harness.run(BACK_S - 1)
    assert harness.ring_recorder.frames > 0, where
    number = harness.recorder.trigger(0, 5, "", harness.now)
    harness.run(40)
    check(harness, where)
    assert number == max(int(n[:6]) for n in harness.files.data if n.endswith(".plm")), where
    assert not harness.ring_recorder.errors, where
    return ended, took, number, cuts


def main(wanted: int) -> int:
    below = seeded(20_261_125)
    cuts = clips = seed = within = 0
    slowest = 0.0
    while cuts < wanted:
        seed += 1
        ended, took, number, more = cut(seed, below(LIFE_OPERATIONS))
        cuts += not ended
        clips += number
        within += more
        slowest = max(slowest, took)
    print(
        f"{cuts} power cuts in {seed} lives of a recorder, {within} in recoveries, {clips} clips: all sealed, signed "
        f"and chained, nothing before the last segment lost; recovery took {slowest * 1000:.1f} ms at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
