"""Deltas that the host makes are applied by the device's code on MicroPython and on CPython."""

import contextlib
import hashlib
import json
import random
import subprocess

import pytest
from hypothesis import strategies as st
from patrolink.core import resources
from patrolink.core.errors import DeviceError
from patrolink.flash.image import delta

from tests.conftest import ROOT
from tests.support.properties import untimed

PIPE = ROOT / "tests" / "integration" / "device" / "delta_pipe.py"
SEED, PAIRS = 20_261_130, 40
Case = tuple[bytes, bytes, int]  # base, payload, size of the new content


@pytest.fixture(params=["micropython", "cpython"])
def apply(request, tmp_path):
    """Return a function that applies deltas on a runtime: SHA-256 of the new content or the reason of a refusal."""
    try:
        command = resources.interpreter(request.param)
    except DeviceError as e:
        pytest.skip(str(e))

    def apply(cases: list[Case]) -> list[str]:
        lines = []
        for i, (base, payload, size) in enumerate(cases):
            names = [tmp_path / f"{i}.base", tmp_path / f"{i}.delta"]
            for path, data in zip(names, (base, payload), strict=True):
                path.write_bytes(data)
            lines.append(json.dumps([*map(str, names), size]) + "\n")
        done = subprocess.run([*command, str(PIPE)], input="".join(lines), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return apply


def edited(rng: random.Random, data: bytes) -> bytes:
    """Return the data with parts changed, repeated, inserted and removed."""
    new = bytearray(data)
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(new) + 1)
        n = rng.choice((1, 20, 600, 3000))
        match rng.randrange(4):
            case 0:
                new[at:at] = rng.randbytes(n)
            case 1:
                del new[at : at + n]
            case 2:
                new[at:at] = data[rng.randrange(len(data) + 1) :][:n]
            case _:
                for i in range(at, min(at + n, len(new)), rng.choice((1, 7, 40))):
                    new[i] = (new[i] + 4) & 255
    return bytes(new) or b"new"


def pairs() -> list[tuple[bytes, bytes]]:
    rng = random.Random(SEED)
    sources = b"".join(path.read_bytes() for path in sorted((ROOT / "device" / "agent").rglob("*.py")))
    out = [
        (b"", b"1"),
        (b"1", b"1"),
        (b"", rng.randbytes(2000)),
        (rng.randbytes(2000), b"1"),
        (bytes(5000), bytes(7000)),
    ]
    for _ in range(PAIRS):
        at = rng.randrange(len(sources))
        base = rng.choice((sources[at : at + 20_000], rng.randbytes(rng.randrange(1, 3000))))
        out.append((base, edited(rng, base)))
    return out


def test_deltas_of_the_host_give_the_new_content(apply):
    cases = [(base, delta.make_delta(base, new), len(new)) for base, new in pairs()]
    assert apply(cases) == [hashlib.sha256(new).hexdigest() for _, new in pairs()], f"seed {SEED}"


def test_damaged_deltas_are_refused_or_give_other_content(apply):
    """The runtime agrees with the host's implementation: the same cases are refused, the content is the same."""
    rng = random.Random(SEED)
    cases = []
    for base, new in pairs():
        payload = bytearray(delta.make_delta(base, new))
        for _ in range(5):
            damaged = bytearray(payload)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            cases.append((base, bytes(damaged), len(new)))
        cases.append((base, bytes(payload[: rng.randrange(len(payload))]), len(new)))
        cases.append((base, bytes(payload), len(new) + rng.choice((-1, 1))))
        cases.append((base[:-1], bytes(payload), len(new)))
    answers = apply(cases)
    for (base, payload, size), answer in zip(cases, answers, strict=True):
        try:
            expected = hashlib.sha256(delta.apply_delta(base, payload, size)).hexdigest()
        except delta.DeltaError:
            continue  # the device does not check bytes after the end of the compressed data
        assert answer == expected, f"seed {SEED}, base {base[:20]!r}, payload {payload.hex()}"
    assert len([answer for answer in answers if " " in answer]) > len(answers) // 2


@untimed(st.binary(max_size=300), st.binary(min_size=1, max_size=300))
def test_any_content_round_trips(base, new):
    assert delta.apply_delta(base, delta.make_delta(base, new), len(new)) == new


@untimed(st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 1000))
def test_any_payload_is_refused_or_gives_content_of_the_size(base, operations, size):
    for payload in (operations, delta._deflate(operations)):
        with contextlib.suppress(delta.DeltaError):
            assert len(delta.apply_delta(base, payload, size)) == size
