"""Alter one device's genuine clips in many ways, and print the verdict on each: build/clips/alterations.{txt,json}.

python tests/simulation/clip_alterations.py [FOLDER]     build/clips unless said

Nothing of what is altered is ever told as valid, with the evidence key or without.
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

NUMBER = 2  # the clip that is altered: an SOS's, with a clip before and after it
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
    """Return what changes one byte in the midst of the first manifest line of a kind."""

    def alter(device: Path) -> None:
        data = manifest_of(device).read_bytes()
        begin = data.index(b'{"%s":' % kind.encode())
        flip(manifest_of(device), (begin + data.index(b"\n", begin)) // 2)

    return alter


def lines(device: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = manifest_of(device)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def swap(a: Path, b: Path) -> None:
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)


def sealed(said: list[bytes], private: ec.EllipticCurvePrivateKey) -> list[bytes]:
    """Return the lines under a new seal, right in all but whose it is."""
    chain = bytes.fromhex(json.loads(said[0])["previous"])
    for line in said[:-1]:
        chain = clip.extend_chain(chain, line)
    der = private.sign(clip.signature_digest(chain), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(der)
    seal = {"chain": chain.hex(), "sig": f"{r:064x}{min(s, ORDER - s):064x}"}
    return [*said[:-1], json.dumps(seal, separators=(",", ":")).encode() + b"\n"]


def reseal(device: Path) -> None:
    """Leave a segment's line out, and seal what is left under a key of one's own."""
    lines(
        device, lambda said: sealed([it for it in said if it is not said[1]], ec.generate_private_key(ec.SECP256R1()))
    )


def forge(device: Path) -> None:
    """As above, and name that key in the head."""
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    public = f"{2 | numbers.y & 1:02x}{numbers.x:064x}"

    def change(said: list[bytes]) -> list[bytes]:
        head = json.loads(said[0]) | {"signer": public}
        return sealed([json.dumps(head, separators=(",", ":")).encode() + b"\n", *said[2:]], private)

    lines(device, change)
    segments_of(device)[0].unlink()


def mirror(device: Path) -> None:
    """The other signature that fits: r | order - s."""

    def change(said: list[bytes]) -> list[bytes]:
        seal = json.loads(said[-1])
        seal["sig"] = seal["sig"][:64] + f"{ORDER - int(seal['sig'][64:], 16):064x}"
        return [*said[:-1], json.dumps(seal, separators=(",", ":")).encode() + b"\n"]

    lines(device, change)


def move(device: Path, number: int) -> None:
    """Take the clip for another one: folder and manifest get that number."""
    target = device / f"{number:06d}"
    shutil.rmtree(target, ignore_errors=True)
    manifest_of(device).parent.rename(target)
    (target / f"{NUMBER:06d}.plm").rename(target / f"{number:06d}.plm")


def renumber(device: Path) -> None:
    """As `move`, and the head says so too."""
    lines(device, lambda said: [said[0].replace(b'{"clip":2,', b'{"clip":9,'), *said[1:]])
    move(device, 9)


def replay(device: Path) -> None:
    """An older clip once more, under a new number."""
    shutil.copytree(device / "000001", device / "000009")
    (device / "000009" / "000001.plm").rename(device / "000009" / "000009.plm")


def other_segment(device: Path) -> None:
    """A segment of clip 1 in the place of one of this clip's."""
    segments_of(device)[0].write_bytes(segments_of(device, 1)[0].read_bytes())


def cut(device: Path) -> None:
    path = segments_of(device)[1]
    path.write_bytes(path.read_bytes()[:-1000])


def reorder(said: list[bytes]) -> list[bytes]:
    return [*said[:2], said[3], said[2], *said[4:]]


def added(said: list[bytes]) -> list[bytes]:
    return [*said[:-2], b'{"access":"live_view_start","who":"duty","time_ms":1795000022000}\n', *said[-2:]]


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
    "a segment cut short": cut,
    "a segment removed": lambda d: segments_of(d)[1].unlink(),
    "two segments swapped": lambda d: swap(*segments_of(d)[:2]),
    "a segment of another clip put in": other_segment,
    "a segment of another clip added": lambda d: shutil.copy(segments_of(d, 1)[0], manifest_of(d).parent),
    "a manifest line removed": lambda d: lines(d, lambda said: [*said[:1], *said[2:]]),
    "a manifest line added": lambda d: lines(d, added),
    "two manifest lines reordered": lambda d: lines(d, reorder),
    "the seal removed": lambda d: lines(d, lambda said: said[:-1]),
    "lines removed, sealed under another key": reseal,
    "the same, and the head names that key": forge,
    "the signature's other form": mirror,
    "the manifest of another clip put in": lambda d: shutil.copy(manifest_of(d, 1), manifest_of(d)),
    "the manifest removed": lambda d: manifest_of(d).unlink(),
    "the whole clip removed": lambda d: shutil.rmtree(manifest_of(d).parent),
    "the clip renumbered": renumber,
    "an older clip under a new number": replay,
    "the clip in the place of another": lambda d: move(d, 4),
}


def judge(altered: Path, evidence: EvidenceKey | None) -> tuple[str, list[dict[str, str]]]:
    """Return the verdict on all clips of the device, and the findings."""
    found = verify_device(altered, read_signers(altered.parent / "signers.toml"), evidence)
    return found.verdict, [finding.to_json() for one in found.clips for finding in one.findings]


def run(work: Path) -> list[dict[str, object]]:
    """Return what was done to the clips, the verdict and the first finding that makes it; the untouched ones first."""
    device = clip_maker.make(work / "clips")
    folder = device.write(work / "clips")
    out = []
    for name, alter in {"nothing": lambda _: None, **ALTERATIONS}.items():
        target = work / "altered"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder.parent, target)
        alter(target / folder.name)
        verdict, findings = judge(target / folder.name, None)
        within, _ = judge(target / folder.name, device.evidence)
        grade = "gap" if verdict == "valid with gaps" else verdict
        first = next((it for it in findings if it["grade"] == grade), None)
        told = {"altered": name, "verdict": verdict, "with_key": within, "findings": findings, "first": first}
        out.append(told)
    return out


def table(rows: list[dict[str, object]]) -> str:
    """Return the verdicts as text for people."""
    lines = [f"{'what was altered':42} {'verdict':16} where, and what is told of it"]
    for row in rows:
        first = row["first"]
        told = f"{first['where']}: {first['words']}" if isinstance(first, dict) else ""
        lines.append(f"{row['altered']!s:42} {row['verdict']!s:16} {told}".rstrip())
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
