"""Power cuts of a recorder at random operations; `make sim` runs a thousand."""

import pytest

from tests.simulation import clip_cuts


def test_power_cuts_lose_at_most_the_last_segment():
    assert clip_cuts.main(60) == 0


def test_the_check_detects_a_changed_or_missing_line_and_a_truncated_segment():
    harness = clip_cuts.ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(30)
    clip_cuts.check(harness, "unchanged")
    manifest = f"{number:06d}.plm"
    original = bytes(harness.files.data[manifest])
    for changed in (
        original.replace(b'"lost":0', b'"lost":1', 1),
        b"".join(original.splitlines(True)[:2] + original.splitlines(True)[3:]),
    ):
        harness.files.data[manifest] = bytearray(changed)
        with pytest.raises(AssertionError):
            clip_cuts.check(harness, "altered")
    harness.files.data[manifest] = bytearray(original)
    del harness.files.data[harness.segments(number)[1]["seg"] + ".pls"][-1:]
    with pytest.raises(AssertionError):
        clip_cuts.check(harness, "shorter")
