"""Random alterations of the files of two devices: a clip with the verdict `valid` is always unchanged."""

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
def recorded(tmp_path_factory):
    """Return the clips of two devices, and their public keys."""
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
    """Apply one random alteration to the files, and return its name."""
    files = [path for path in sorted(clips.rglob("*.pl?")) if path.stat().st_size]
    a, b = rng.choice(files), rng.choice(files)
    manifests = [path for path in files if path.suffix == ".plm"]
    m, n = rng.choice(manifests), rng.choice(manifests)
    lines = m.read_bytes().splitlines(keepends=True)
    folder, other = rng.choice(manifests).parent, rng.choice(manifests).parent
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    new = folder.with_name(f"{rng.randrange(9):06d}")
    alterations = {
        "byte": lambda: flip(rng, a),
        "cut": lambda: a.write_bytes(a.read_bytes()[: -rng.randrange(1, 50)]),
        "grow": lambda: a.write_bytes(a.read_bytes() + rng.randbytes(rng.randrange(1, 50))),
        "file copied over another": lambda: b.write_bytes(a.read_bytes()),
        "file copied into a clip": lambda: (folder / a.name).write_bytes(a.read_bytes()),
        "file deleted": a.unlink,
        "file renamed": lambda: a.rename(a.with_name(b.name)),
        "lines swapped": lambda: lines.insert(to, lines.pop(at)) or m.write_bytes(b"".join(lines)),
        "line copied": lambda: lines.insert(to, lines[at]) or m.write_bytes(b"".join(lines)),
        "line deleted": lambda: lines.pop(at) and m.write_bytes(b"".join(lines)),
        "line of another": lambda: (
            lines.insert(to, rng.choice(n.read_bytes().splitlines(keepends=True))) or m.write_bytes(b"".join(lines))
        ),
        "seal of another": lambda: m.write_bytes(b"".join([*lines[:-1], n.read_bytes().splitlines(keepends=True)[-1]])),
        "clip deleted": lambda: shutil.rmtree(folder),
        "clip renamed": lambda: new.exists() or folder.rename(new),
        "clip copied": lambda: new.exists() or shutil.copytree(folder, new),
        "clip replaced by another": lambda: (
            (shutil.rmtree(other), shutil.copytree(folder, other)) if folder != other else None
        ),
        "devices swapped": lambda: (
            (clips / DEVICES[0]).rename(clips / "x"),
            (clips / DEVICES[1]).rename(clips / DEVICES[0]),
            (clips / "x").rename(clips / DEVICES[1]),
        ),
    }
    name = rng.choice(sorted(alterations))
    alterations[name]()
    return name


def test_valid_clips_are_unchanged(recorded, tmp_path):
    """With the verdict `valid with gaps`, remaining files are unchanged and each missing file has a finding."""
    source, signers = recorded
    genuine = {(device, clip.name): content(clip) for device in DEVICES for clip in (source / device).iterdir()}
    rng = random.Random(SEED)
    counts = dict.fromkeys(VERDICTS, 0)
    for round_ in range(ROUNDS):
        clips = shutil.copytree(source, tmp_path / "clips")
        applied = []
        for _ in range(rng.randrange(1, 4)):
            if any(path.stat().st_size for path in clips.rglob("*.plm")):
                applied.append(alter(rng, clips))
        for device in DEVICES:
            for result in verify_device(clips / device, signers).clips if (clips / device).exists() else ():
                counts[result.verdict] += 1
                files, original = content(result.folder), genuine.get((device, result.folder.name))
                if result.verdict == "valid":
                    assert files == original, (SEED, round_, applied, result)
                if result.verdict == "valid with gaps":
                    assert original is not None and files.items() <= original.items(), (SEED, round_, applied, result)
                    missing = {f.where for f in result.findings if f.kind == "missing"}
                    assert missing == original.keys() - files.keys(), (SEED, round_, applied, result)
        shutil.rmtree(clips)
    assert all(n > 3 for n in counts.values()), counts
