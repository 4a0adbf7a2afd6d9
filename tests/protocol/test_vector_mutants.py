"""Decoders with one wrong rule each: the vectors catch every one of them, and the right decoder passes."""

import shutil
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT
from tests.support.vector_faults import faults

CODEC = ROOT / "protocol" / "patrolink_protocol"


class Mutant(NamedTuple):
    """A change of one file of the codec, and a vector that fails with it."""

    name: str
    file: str
    old: str
    new: str
    vector: str


MUTANTS = [
    Mutant("long tags are compared in 8 bytes", "frame.py", "range(len(tag))", "range(8)", "frame-long-tag-flip-8"),
    Mutant(
        "the device id is a constant",
        "frame.py",
        "bytes([len(device_id)]) + device_id",
        'b"\\x08vector-1"',
        "key-device",
    ),
    Mutant(
        "the time of the first row is signed",
        "track_decoder.py",
        "start = bits.get(32) * 1000",
        "start = _signed(bits.get(32), 32) * 1000",
        "batch-year-2038",
    ),
    Mutant(
        "raw times are unsigned",
        "track_decoder.py",
        "_column(bits, 0, n, 32, True, 0)",
        "_column(bits, 0, n, 32, False, 0)",
        "batch-time-raw-back",
    ),
    Mutant("256 rows are legal", "track_decoder.py", "n > m.MAX_BATCH", "n > 256", "batch-256-rows-whole"),
    Mutant(
        "only the first mode is checked",
        "track_decoder.py",
        'for state in columns["state"]:',
        'for state in columns["state"][:1]:',
        "batch-mode-0-later",
    ),
    Mutant(
        "raw latitudes are clamped",
        "track_decoder.py",
        "return [first] + values",
        "return [first] + [min(max(v, -90000000), 90000000) if width == 28 else v for v in values]",
        "batch-lat-raw-over",
    ),
    Mutant(
        "keyframes of course are reduced",
        "track_decoder.py",
        "for i in range(1, len(values)):",
        "for i in range(len(values)):",
        "batch-course-keyframe-200-fixed",
    ),
    Mutant(
        "codes end after 35 bits",
        "track_decoder.py",
        "_MAX_CODE_BITS = 36",
        "_MAX_CODE_BITS = 35",
        "batch-code-36-bits",
    ),
    Mutant(
        "codes end after 37 bits",
        "track_decoder.py",
        "_MAX_CODE_BITS = 36",
        "_MAX_CODE_BITS = 37",
        "batch-code-37-bits",
    ),
    Mutant(
        "the window remembers 1000 counters",
        "replay.py",
        "if self._bitmap[c >> 3] >> (c & 7) & 1:",
        "if counter > self.highest - 1000 and self._bitmap[c >> 3] >> (c & 7) & 1:",
        "replay-host-deep",
    ),
    Mutant(
        "counters are taken after the body",
        "receiver.py",
        "        outcome = self.window.accept(counter)",
        "        from .decode import decode\n\n        decode(kind, self.channel.read(data)[0])\n"
        "        outcome = self.window.accept(counter)",
        "counter-host",
    ),
    Mutant("a byte order mark is dropped", "decode.py", 'decode("utf-8")', 'decode("utf-8-sig")', "utf8-bom"),
    Mutant(
        "a critical trace is accepted", "tail.py", "if critical:", "if critical and kind != 1:", "tail-trace-critical"
    ),
    Mutant("extension 0 is accepted", "tail.py", "1 <= kind <= 127", "kind <= 127", "tail-type-0"),
    Mutant("an extension may come twice", "tail.py", " or kind in present", "", "tail-twice"),
    Mutant("a trace may be empty", "tail.py", "low <= len(value) <= high", "len(value) <= high", "tail-trace-0"),
    Mutant(
        "unknown long types have a short tag",
        "frame.py",
        "if kind >= m.LONG_TAG_FROM",
        "if m.LONG_TAG_FROM <= kind <= m.CERTIFY",
        "frame-unknown-long-20",
    ),
    Mutant(
        "the window is one counter deeper",
        "replay.py",
        "counter <= self.highest - size",
        "counter < self.highest - size",
        "replay-host",
    ),
    Mutant("surrogates are UTF-8", "codec.py", "0x9F if lead == 0xED", "0xBF if lead == 0xED", "utf8-surrogate"),
    Mutant("overlong forms are UTF-8", "codec.py", "0xA0 if lead == 0xE0", "0x80 if lead == 0xE0", "utf8-overlong-3"),
    Mutant(
        "times have no upper limit", "track_decoder.py", " or max(times) > m.TIME_MAX_MS", "", "batch-time-after-2106"
    ),
    Mutant("times have no lower limit", "track_decoder.py", "min(times) < 0 or ", "", "batch-time-before-1970"),
    Mutant(
        "pairs are not both known",
        "codec.py",
        "if (first in missing) != (second in missing):",
        "if first in missing and second not in missing:",
        "event-pair-0-lat_e7-alone",
    ),
    Mutant(
        "the order of a pair is strict",
        "codec.py",
        "values[first] > values[second]",
        "values[first] >= values[second]",
        "ptt_burst-pair-0-equal",
    ),
    Mutant(
        "empty digests are refused", "decode.py", "if n == unknown:", "if n == unknown == 1:", "clip_manifest-unknown"
    ),
    Mutant(
        "the last epoch is followed by epoch 0",
        "receiver.py",
        "self.channel.phase or self.epoch == EPOCH_MAX",
        "self.channel.phase",
        "key-last-epoch",
    ),
    Mutant(
        "a device accepts a counter again",
        "receiver.py",
        "outcome == ReplayWindow.OLD or outcome == ReplayWindow.REPEATED and self._direction == DOWNLINK",
        "outcome == ReplayWindow.OLD",
        "replay-device",
    ),
]


def copy_of_codec(folder):
    shutil.copytree(CODEC, folder / CODEC.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / CODEC.name


def test_the_codec_passes(tmp_path):
    copy_of_codec(tmp_path)
    assert faults(tmp_path) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_vector_fails_with_each_mutant(mutant, tmp_path):
    path = copy_of_codec(tmp_path) / mutant.file
    source = path.read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1, f"{mutant.file} has changed: change the mutant, too"
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    assert mutant.vector in faults(tmp_path)
