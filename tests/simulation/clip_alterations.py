"""Alters the genuine clips of a device in many ways and prints the verdict on each.

python tests/simulation/clip_alterations.py [FOLDER]

Writes alterations.txt and alterations.json into FOLDER (default: build/clips). No altered clip may be valid, with the
evidence key or without.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from patrolink.evidence.clip_folders import read_signers  # noqa: E402
from patrolink.evidence.evidence_key import EvidenceKey  # noqa: E402
from patrolink.evidence.verify import verify_device  # noqa: E402
from patrolink_protocol import clip  # noqa: E402

from tests.support import clip_maker  # noqa: E402

NUMBER = 2  # the altered clip: an SOS, between two other clips
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def manifest_of(device: Path, number: int = NUMBER) -> Path:
    return device / f"{number:06d}" / f"{number:06d}.plm"


def segments_of(device: Path, number: int = NUMBER) -> list[Path]:
    return sorted((device / f"{number:06d}").glob("*.pls"))


def flip(path: Path, at: int) -> None:
    """Change one bit of the byte at `at`."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flip_line(kind: str) -> Callable[[Path], None]:
    """Return a function that changes one byte in the middle of the first manifest line of a kind."""

    def alter(device: Path) -> None:
        data = manifest_of(device).read_bytes()
        start = data.index(b'{"%s":' % kind.encode())
        flip(manifest_of(device), (start + data.index(b"\n", start)) // 2)

    return alter


def change_lines(device: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the lines of the manifest by the result of a function."""
    path = manifest_of(device)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def swap(a: Path, b: Path) -> None:
    data_a, data_b = a.read_bytes(), b.read_bytes()
    a.write_bytes(data_b)
    b.write_bytes(data_a)


def seal(lines: list[bytes], private: ec.EllipticCurvePrivateKey) -> list[bytes]:
    """Return the lines with a new seal, which is valid for this key; the old seal is the last line."""
    chain = bytes.fromhex(json.loads(lines[0])["previous"])
    for line in lines[:-1]:
        chain = clip.extend_chain(chain, line)
    der = private.sign(clip.signature_digest(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(der)
    line = {"chain": chain.hex(), "sig": f"{r:064x}{min(s, ORDER - s):064x}"}
    return [*lines[:-1], json.dumps(line, separators=(",", ":")).encode() + b"\n"]


def reseal(device: Path) -> None:
    """Remove a segment's line and seal the others with another key."""
    private = ec.generate_private_key(ec.SECP256R1())
    change_lines(device, lambda lines: seal([line for line in lines if line is not lines[1]], private))


def forge(device: Path) -> None:
    """Like `reseal`, with the other key in the first line."""
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    public = f"{2 | numbers.y & 1:02x}{numbers.x:064x}"

    def change(lines: list[bytes]) -> list[bytes]:
        head = json.loads(lines[0]) | {"signer": public}
        return seal([json.dumps(head, separators=(",", ":")).encode() + b"\n", *lines[2:]], private)

    change_lines(device, change)
    segments_of(device)[0].unlink()


def mirror(device: Path) -> None:
    """Replace the signature by its other valid form in ECDSA: r | order - s."""

    def change(lines: list[bytes]) -> list[bytes]:
        line = json.loads(lines[-1])
        line["sig"] = line["sig"][:64] + f"{ORDER - int(line['sig'][64:], 16):064x}"
        return [*lines[:-1], json.dumps(line, separators=(",", ":")).encode() + b"\n"]

    change_lines(device, change)


def move(device: Path, number: int) -> None:
    """Rename folder and manifest to another clip number."""
    target = device / f"{number:06d}"
    shutil.rmtree(target, ignore_errors=True)
    manifest_of(device).parent.rename(target)
    (target / f"{NUMBER:06d}.plm").rename(target / f"{number:06d}.plm")


def renumber(device: Path) -> None:
    """Like `move` to number 9, with the changed number in the first line."""
    change_lines(device, lambda lines: [lines[0].replace(b'{"clip":2,', b'{"clip":9,'), *lines[1:]])
    move(device, 9)


def replay(device: Path) -> None:
    """Copy an older clip to a new number."""
    shutil.copytree(device / "000001", device / "000009")
    (device / "000009" / "000001.plm").rename(device / "000009" / "000009.plm")


def other_segment(device: Path) -> None:
    """Replace a segment by one of clip 1."""
    segments_of(device)[0].write_bytes(segments_of(device, 1)[0].read_bytes())


def truncate(device: Path) -> None:
    """Remove the last 1000 bytes of a segment."""
    path = segments_of(device)[1]
    path.write_bytes(path.read_bytes()[:-1000])


def swap_lines(lines: list[bytes]) -> list[bytes]:
    """Swap the third and the fourth line."""
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def add_line(lines: list[bytes]) -> list[bytes]:
    """Add an access line before the close line."""
    return [*lines[:-2], b'{"access":"live_view_start","who":"duty","time_ms":1795000022000}\n', *lines[-2:]]


ALTERATIONS: dict[str, Callable[[Path], object]] = {
    "a byte of a segment": lambda d: flip(segments_of(d)[0], segments_of(d)[0].stat().st_size // 2),
    "a byte of a segment's header": lambda d: flip(segments_of(d)[0], 20),
    "a byte of the thumbnail": lambda d: flip(segments_of(d)[2], 5000),
    **{
        f"a byte of the manifest: {name}": flip_line(kind)
        for kind, name in {
            "clip": "head",
            "seg": "segment",
            "mark": "event",
            "access": "access",
            "thumb": "thumbnail",
            "close": "close",
            "chain": "seal",
        }.items()
    },
    "a segment truncated": truncate,
    "a segment removed": lambda d: segments_of(d)[1].unlink(),
    "two segments swapped": lambda d: swap(*segments_of(d)[:2]),
    "a segment replaced by one of another clip": other_segment,
    "a segment of another clip added": lambda d: shutil.copy(segments_of(d, 1)[0], manifest_of(d).parent),
    "a manifest line removed": lambda d: change_lines(d, lambda lines: [*lines[:1], *lines[2:]]),
    "a manifest line added": lambda d: change_lines(d, add_line),
    "two manifest lines reordered": lambda d: change_lines(d, swap_lines),
    "the seal removed": lambda d: change_lines(d, lambda lines: lines[:-1]),
    "a line removed, sealed with another key": reseal,
    "the same, with that key in the first line": forge,
    "the signature in its other valid form": mirror,
    "the manifest replaced by that of another clip": lambda d: shutil.copy(manifest_of(d, 1), manifest_of(d)),
    "the manifest removed": lambda d: manifest_of(d).unlink(),
    "the whole clip removed": lambda d: shutil.rmtree(manifest_of(d).parent),
    "the clip renumbered": renumber,
    "an older clip copied to a new number": replay,
    "the clip moved to the number of another": lambda d: move(d, 4),
}


def verdict_on(device: Path, evidence: EvidenceKey | None) -> tuple[str, list[dict[str, str]]]:
    """Return the verdict on all clips of a device, and the findings."""
    result = verify_device(device, read_signers(device.parent / "signers.toml"), evidence)
    return result.verdict, [finding.to_json() for clip in result.clips for finding in clip.findings]


def run(work: Path) -> list[dict[str, object]]:
    """Return for each alteration the verdict and the first finding that causes it; the unaltered clips come first."""
    device = clip_maker.make(work / "clips")
    folder = device.write(work / "clips")
    rows = []
    for name, alter in {"nothing": lambda _: None, **ALTERATIONS}.items():
        target = work / "altered"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder.parent, target)
        alter(target / folder.name)
        verdict, findings = verdict_on(target / folder.name, None)
        verdict_with_key, _ = verdict_on(target / folder.name, device.evidence)
        grade = "gap" if verdict == "valid with gaps" else verdict
        first = next((finding for finding in findings if finding["grade"] == grade), None)
        row = {"altered": name, "verdict": verdict, "with_key": verdict_with_key, "findings": findings, "first": first}
        rows.append(row)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Return the verdicts as a text table."""
    lines = [f"{'alteration':42} {'verdict':16} first finding"]
    for row in rows:
        first = row["first"]
        finding = f"{first['where']}: {first['words']}" if isinstance(first, dict) else ""
        lines.append(f"{row['altered']!s:42} {row['verdict']!s:16} {finding}".rstrip())
    return "\n".join(lines) + "\n"


def main(out: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="patrolink-alterations-") as work:
        rows = run(Path(work))
    out.mkdir(parents=True, exist_ok=True)
    (out / "alterations.txt").write_text(table(rows))
    (out / "alterations.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows), end="")
    return 0 if rows[0]["verdict"] == "valid" and all(row["verdict"] != "valid" for row in rows[1:]) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "clips"))
