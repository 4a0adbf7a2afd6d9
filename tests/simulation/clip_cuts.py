"""Cut the power of a recorder at random operations in many seeded runs, restart it, and check its clips.

python tests/simulation/clip_cuts.py [CUTS]     default 1,000

A run records at 5 fps, with random events, snapshots and access lines. An operation is a written byte or a file
created, renamed or removed. Up to three recoveries are cut too. After that: each clip is sealed, chained to the
previous one and signed; each file matches its line; all but the last segment have their end record; no picture of an
event is missing except for the last seconds; recording continues within 2 s, and the next clip continues the chain.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("tests/unit", "device", "protocol", "protocol/generated"):
    sys.path.insert(0, str(ROOT / folder))

from clip_harness import CONFIG, ClipHarness  # noqa: E402
from cryptography.exceptions import InvalidSignature  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from memory_storage import PowerCut  # noqa: E402
from patrolink_protocol import clip  # noqa: E402
from seeded_random import seeded  # noqa: E402

RUN_OPERATIONS = 260_000
RECOVERY_OPERATIONS = 1_500
RESTART_S = 2


def verify(signer: str, chain: bytes, signature: bytes) -> bool:
    """Return whether the signature of a manifest is valid."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(signer))
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(der, clip.signature_digest(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def record(harness: ClipHarness, seed: int, events: list[tuple[int, int]], seconds: float = 45) -> None:
    """Record with random events, and append (clip, monotonic ms) of each to `events`.

    With an odd seed storage is slow, so that a cut loses accepted data.
    """
    below = seeded(seed)
    slow = seed % 2 == 1
    harness.files.behind = [] if slow else None
    until = harness.now + seconds * 1000
    while harness.now < until:
        harness.run(0.5, (lambda: harness.files.work(1 + below(2))) if slow else None)
        action = below(24)
        if action < 2:
            events.append((harness.recorder.trigger(action, 1000 + len(events), "", harness.now), harness.now))
        elif action == 2:
            harness.recorder.snapshot("duty", harness.now)
        elif action == 3:
            harness.recorder.stop("duty", harness.now)
        elif action == 4:
            harness.store.open_clips.log_access("live_view_start", "duty", harness.now)


def check(harness: ClipHarness, context: object) -> None:
    """Check each clip on storage after a recovery."""
    previous = None
    for number in sorted(int(n[:6]) for n in harness.files.data if n.endswith(".plm")):
        lines = harness.manifest(number)
        assert "sig" in lines[-1] and [s for s in lines if "close" in s] == [lines[-2]], (context, number)
        assert previous is None or lines[0]["previous"] == previous, (context, number)
        previous = lines[-1]["chain"]
        assert verify(lines[0]["signer"], bytes.fromhex(previous), bytes.fromhex(lines[-1]["sig"])), (context, number)
        segments = harness.segments(number)
        assert [s["seg"] for s in segments] == sorted(s["seg"] for s in segments), (context, number)
        for s, after in zip(segments, segments[1:] + [None] * bool(segments), strict=True):
            assert s["seg"] + ".pls" in harness.files.data, (context, number, s)
            read = harness.read(s["seg"] + ".pls")
            assert read.complete or not s["whole"], (context, number, s)
            assert not s["whole"] or len(read.pictures()) == s["frames"] or lines[0]["codec"] == "jpeg", (context, s)
            # A power cut between the end record and the line leaves a complete file whose line has `whole` false.
            assert read.complete or after is None or after["seg"][:6] != s["seg"][:6], (context, number, s)
        if lines[0]["codec"] != "jpeg":
            check_sequence(harness, segments, (context, number))


def check_sequence(harness: ClipHarness, segments: list[dict[str, str]], context: object) -> None:
    """Check that no picture is missing between the first and the last one of each boot."""
    for boot in {s["seg"][:6] for s in segments}:
        numbers = [n for s in segments if s["seg"][:6] == boot for n in harness.read(s["seg"] + ".pls").pictures()]
        assert numbers == list(range(min(numbers, default=0), min(numbers, default=0) + len(numbers))), context


def check_events(
    harness: ClipHarness, events: list[tuple[int, int]], captured: list[tuple[int, int]], end: int, context: object
) -> None:
    """Check that no picture of an event is missing, except for the last moment before the cut."""
    recorded = set()
    for name in harness.files.data:
        if name.endswith(".plm"):
            recorded.update(harness.pictures(int(name[:6])))
    tolerance_ms = 1500  # data in an incomplete block, and data that slow storage had not written
    for number, at in events:
        if f"{number:06d}.plm" in harness.files.data:
            for n, ms in captured:
                if at - CONFIG["pre_s"] * 1000 <= ms < min(at + CONFIG["post_s"] * 1000, end - tolerance_ms):
                    assert n in recorded, (context, number, at, n, ms)


def cut(seed: int, operations: int) -> tuple[bool, float, int, int]:
    """Return (whether the run ended before the cut, seconds of the restart, clips, recoveries that were cut)."""
    context = f"seed {seed}, cut after {operations} operations"
    harness = ClipHarness().boot()
    harness.files.left = operations
    ended, events = True, list[tuple[int, int]]()
    try:
        record(harness, seed, events)
    except PowerCut:
        ended = False
    harness.files.left = harness.files.behind = None
    captured, end = harness.camera.captured, harness.now
    below, cuts = seeded(seed + operations), 0
    for _ in range(below(4)):
        harness.files.left = below(RECOVERY_OPERATIONS)
        try:
            harness.boot()
        except PowerCut:
            cuts += 1
    harness.files.left = None
    start = time.perf_counter()
    harness.boot()
    restart_s = time.perf_counter() - start
    check(harness, context)
    check_events(harness, events, captured, end, context)
    harness.run(RESTART_S - 1)
    assert harness.ring_recorder.frames > 0, context
    number = harness.recorder.trigger(0, 5, "", harness.now)
    harness.run(40)
    check(harness, context)
    assert number == max(int(n[:6]) for n in harness.files.data if n.endswith(".plm")), context
    assert not harness.ring_recorder.errors, context
    return ended, restart_s, number, cuts


def main(target: int) -> int:
    below = seeded(20_261_125)
    cuts = clips = seed = in_recoveries = 0
    slowest = 0.0
    while cuts < target:
        seed += 1
        ended, restart_s, number, recovery_cuts = cut(seed, below(RUN_OPERATIONS))
        cuts += not ended
        clips += number
        in_recoveries += recovery_cuts
        slowest = max(slowest, restart_s)
    print(
        f"{cuts} power cuts in {seed} runs of a recorder, {in_recoveries} in recoveries, {clips} clips: all sealed, "
        f"signed and chained, nothing before the last segment lost; slowest recovery {slowest * 1000:.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
