"""Files of two devices altered, mixed, doubled and dropped at random: what is told as valid is what was recorded."""

import random
import shutil
from pathlib import Path

import pytest
from patrolink.evidence.verdict import VERDICTS
from patrolink.evidence.verify import verify_device

from tests.support import clip_maker

pytestmark = pytest.mark.skipif(not clip_maker.DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`")
SEED = 20_261_127
DEVICES = ("linux-1", "linux-2")
ROUNDS = 150


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The clips of two devices, and the keys of both."""
    clips = tmp_path_factory.mktemp("mixed") / "clips"
    signers = {name: [clip_maker.make(clips, name).signer] for name in DEVICES}
    return clips, signers


def content(clip: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in clip.iterdir()}


def flip(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def alter(rng: random.Random, clips: Path) -> str:
    """Do one thing to the files, and return what it was."""
    files = [path for path in sorted(clips.rglob("*.pl?")) if path.stat().st_size]
    a, b = rng.choice(files), rng.choice(files)
    manifests = [path for path in files if path.suffix == ".plm"]
    m, n = rng.choice(manifests), rng.choice(manifests)
    lines = m.read_bytes().splitlines(keepends=True)
    folder, other = rng.choice(manifests).parent, rng.choice(manifests).parent
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    new = folder.with_name(f"{rng.randrange(9):06d}")
    what = {
        "byte": lambda: flip(rng, a),
        "cut": lambda: a.write_bytes(a.read_bytes()[: -rng.randrange(1, 50)]),
        "grow": lambda: a.write_bytes(a.read_bytes() + rng.randbytes(rng.randrange(1, 50))),
        "copy over": lambda: b.write_bytes(a.read_bytes()),
        "copy beside": lambda: (folder / a.name).write_bytes(a.read_bytes()),
        "drop": a.unlink,
        "rename": lambda: a.rename(a.with_name(b.name)),
        "swap lines": lambda: lines.insert(to, lines.pop(at)) or m.write_bytes(b"".join(lines)),
        "double a line": lambda: lines.insert(to, lines[at]) or m.write_bytes(b"".join(lines)),
        "drop a line": lambda: lines.pop(at) and m.write_bytes(b"".join(lines)),
        "line of another": lambda: (
            lines.insert(to, rng.choice(n.read_bytes().splitlines(keepends=True))) or m.write_bytes(b"".join(lines))
        ),
        "seal of another": lambda: m.write_bytes(b"".join([*lines[:-1], n.read_bytes().splitlines(keepends=True)[-1]])),
        "clip dropped": lambda: shutil.rmtree(folder),
        "clip renamed": lambda: new.exists() or folder.rename(new),
        "clip copied": lambda: new.exists() or shutil.copytree(folder, new),
        "clip in the other's place": lambda: (
            (shutil.rmtree(other), shutil.copytree(folder, other)) if folder != other else None
        ),
        "devices swapped": lambda: (
            (clips / DEVICES[0]).rename(clips / "x"),
            (clips / DEVICES[1]).rename(clips / DEVICES[0]),
            (clips / "x").rename(clips / DEVICES[1]),
        ),
    }
    name = rng.choice(sorted(what))
    what[name]()
    return name


def test_whatever_is_told_as_valid_is_what_was_recorded(made, tmp_path):
    """With gaps, what is there is a part of it, and each file that is gone is told."""
    source, signers = made
    genuine = {(device, clip.name): content(clip) for device in DEVICES for clip in (source / device).iterdir()}
    rng = random.Random(SEED)
    told = dict.fromkeys(VERDICTS, 0)
    for round_ in range(ROUNDS):
        clips = shutil.copytree(source, tmp_path / "clips")
        done = []
        for _ in range(rng.randrange(1, 4)):
            if any(path.stat().st_size for path in clips.rglob("*.plm")):
                done.append(alter(rng, clips))
        for device in DEVICES:
            for one in verify_device(clips / device, signers).clips if (clips / device).exists() else ():
                told[one.verdict] += 1
                there, was = content(one.folder), genuine.get((device, one.folder.name))
                if one.verdict == "valid":
                    assert there == was, (SEED, round_, done, one)
                if one.verdict == "valid with gaps":
                    assert was is not None and there.items() <= was.items(), (SEED, round_, done, one)
                    gone = {f.where for f in one.findings if f.kind == "missing"}
                    assert gone == was.keys() - there.keys(), (SEED, round_, done, one)
        shutil.rmtree(clips)
    assert all(n > 3 for n in told.values()), told
