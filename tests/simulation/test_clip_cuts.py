"""A recorder whose power goes at any operation; `make sim` cuts a thousand."""

import pytest

from tests.simulation import clip_cuts


def test_power_cuts_cost_no_more_than_the_last_segment():
    assert clip_cuts.main(60) == 0


def test_a_loss_is_seen_as_one():
    """The check can fail: a life one of whose closed segments loses a byte, or whose manifest loses a line."""
    harness = clip_cuts.ClipHarness().boot().run(20)
    number = harness.recorder.trigger(0, 1, "", harness.now)
    harness.run(30)
    clip_cuts.check(harness, "as it was")
    manifest = f"{number:06d}.plm"
    whole = bytes(harness.files.data[manifest])
    for changed in (
        whole.replace(b'"lost":0', b'"lost":1', 1),
        b"".join(whole.splitlines(True)[:2] + whole.splitlines(True)[3:]),
    ):
        harness.files.data[manifest] = bytearray(changed)
        with pytest.raises(AssertionError):
            clip_cuts.check(harness, "altered")
    harness.files.data[manifest] = bytearray(whole)
    del harness.files.data[harness.segments(number)[1]["seg"] + ".pls"][-1:]
    with pytest.raises(AssertionError):
        clip_cuts.check(harness, "shorter")
