"""Measure images: verification on the board, size of the agent image, deltas over commits, with peers.

Writes build/bench/flash_image.json. Limits: 55 million instructions per verification and 1.5 million in its longest
step on the Cortex-M3; deltas of one changed module take at most 0.6 % of the deflated image (median) and 2 % (maximum),
and openmv-ota's are at least 3 times as large. The exit code is 1 if one is missed.

For each of the latest COMMITS commits that change the agent, patrolink, bsdiff4, detools and openmv-ota make the delta
from its predecessor, of the same two ROMFS. Per cent are those of the new ROMFS deflated.
"""

import gzip
import io
import itertools
import json
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bench_rows
import bsdiff4
import detools
from bench_board import BOARD, FOLDER, PER_CYCLE, ROOT, console
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.flash.image import build, delta, release_key, romfs

sys.path.insert(0, str(ROOT / "boards"))
import firmware_sources  # noqa: E402

try:
    from openmv_ota.ota import delta as openmv_delta
except ImportError:  # it needs Python 3.11
    openmv_delta = None

AGENT_PATHS = ("device", "protocol/patrolink_protocol", "protocol/generated/patrolink_messages.py")
COMMITS = 30
SIGNATURES = 8
SEED = 19
LIMITS = {
    "verify_instructions": 55_000_000,
    "verify_longest_step": 1_500_000,
    "delta_one_module_median_pct": 0.6,
    "delta_one_module_max_pct": 2.0,
}
OPENMV_RATIO_MIN = 3

Files = dict[str, bytes]
_compiled: dict[tuple[str, str], bytes] = {}


class Change(NamedTuple):
    """The agent before and after a commit.

    Attributes:
        commit: Its short name.
        modules: Number of compiled modules that differ.
        base: ROMFS before.
        new: ROMFS after.
    """

    commit: str
    modules: int
    base: bytes
    new: bytes


# --- verification on the board ---


def signatures() -> list[list[str]]:
    """Return [public key, digest, signature] of random keys, in hexadecimal."""
    rng = random.Random(SEED)
    cases = []
    for _ in range(SIGNATURES):
        private = ec.derive_private_key(rng.randrange(1, 1 << 255), ec.SECP256R1())
        digest = rng.randbytes(32)
        algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
        r, s = utils.decode_dss_signature(private.sign(digest, algorithm))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        cases.append([release_key.point(private.public_key()).hex(), digest.hex(), signature.hex()])
    return cases


def verification(board: boards.Board) -> list[dict]:
    """Return the rows of the verification: the largest of all signatures."""
    source = f"CASES = {signatures()!r}\n" + (FOLDER / "image_driver.py").read_text(encoding="utf-8")
    with console(board, {"/image_driver.py": source.encode()}, b"import image_driver") as (rig, straps, output):
        rig.life(straps)
    line = next((line for line in output.decode().splitlines() if line.startswith("[")), None)
    if line is None:
        raise DeviceError("the board did not report its figures; the console ends with:\n" + output.decode())
    totals, longest = zip(*json.loads(line), strict=True)
    return [
        bench_rows.row("verify_instructions", round(max(totals) * PER_CYCLE), "instructions"),
        bench_rows.row("verify_longest_step", round(max(longest) * PER_CYCLE), "instructions"),
    ]


# --- the agent over commits ---


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


def agent_files(commit: str, architecture: str) -> Files | None:
    """Return the compiled modules of a commit by path; None if its sources are laid out in another way."""
    with tempfile.TemporaryDirectory(prefix="patrolink-bench-") as name:
        root = Path(name)
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "device", "protocol"))) as archive:
            archive.extractall(root, filter="data")
        (root / "build").mkdir()
        (root / "build" / "device-lib").symlink_to(ROOT / "build" / "device-lib")
        folder = root / "agent"
        for place, path in firmware_sources.sources(root).items():
            if path.exists():
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(path.read_bytes())
        command = [sys.executable, str(root / "protocol" / "inline_constants.py"), str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        return {
            path.relative_to(folder).with_suffix(".mpy").as_posix(): compiled(path, folder, architecture)
            for path in sorted(folder.rglob("*.py"))
        }


def compiled(path: Path, folder: Path, architecture: str) -> bytes:
    """Return a compiled module; each state of a module is compiled once."""
    key = (path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8"))
    if key not in _compiled:
        _compiled[key] = build.compile_module(path, folder, architecture)
    return _compiled[key]


def changes(architecture: str) -> Iterator[Change]:
    """Yield the latest changes of the agent, newest first."""
    commits = git("log", "--first-parent", "--format=%h", "--", *AGENT_PATHS).decode().split()
    new = agent_files(commits[0], architecture)
    for commit, previous in zip(commits, commits[1:], strict=False):
        base = agent_files(previous, architecture)
        if base is None or new is None:
            return
        modules = sum(base.get(path) != new.get(path) for path in base.keys() | new.keys())
        if modules:
            yield Change(commit, modules, romfs.write(base), romfs.write(new))
        new = base


def detools_patch(compression: str) -> Callable[[bytes, bytes], bytes]:
    def make(base: bytes, new: bytes) -> bytes:
        patch = io.BytesIO()
        detools.create_patch(io.BytesIO(base), io.BytesIO(new), patch, compression=compression)
        return patch.getvalue()

    return make


def makers() -> dict[str, Callable[[bytes, bytes], bytes]]:
    """Return the functions that make a delta, by the suffix of their rows; the first one is ours."""
    out = {
        "": delta.make_delta,
        "_bsdiff4": bsdiff4.diff,
        "_detools_lzma": detools_patch("lzma"),
        "_detools_crle": detools_patch("crle"),
        "_detools_heatshrink": detools_patch("heatshrink"),
    }
    if openmv_delta is not None:
        out["_openmv_ota"] = lambda base, new: gzip.compress(openmv_delta.make_delta(base, new), 9, mtime=0)
    return out


def deflated(data: bytes) -> int:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(compressor.compress(data) + compressor.flush())


def delta_rows(all_changes: list[Change]) -> list[dict]:
    """Return the rows of the deltas: median and maximum in per cent by number of changed modules."""
    groups = {
        "one_module": [change for change in all_changes if change.modules == 1],
        "few_modules": [change for change in all_changes if 2 <= change.modules <= 4],
        "all": all_changes,
    }
    rows = [bench_rows.row(f"delta_commits_{name}", len(group), "commits") for name, group in groups.items()]
    sizes = {
        suffix: {change.commit: len(make(change.base, change.new)) for change in all_changes}
        for suffix, make in makers().items()
    }
    full = {change.commit: deflated(change.new) for change in all_changes}
    for name, group in groups.items():
        if not group:
            continue
        for suffix, by_commit in sizes.items():
            percents = [100 * by_commit[change.commit] / full[change.commit] for change in group]
            rows.append(bench_rows.row(f"delta_{name}_median_pct{suffix}", round(statistics.median(percents), 2), "%"))
            rows.append(bench_rows.row(f"delta_{name}_max_pct{suffix}", round(max(percents), 2), "%"))
        if "_openmv_ota" in sizes:
            ratios = [sizes["_openmv_ota"][change.commit] / sizes[""][change.commit] for change in group]
            rows.append(bench_rows.row(f"delta_{name}_openmv_ota_ratio", round(statistics.median(ratios), 2), "x"))
    return rows


def missed(rows: list[dict]) -> list[str]:
    """Return a sentence for each limit that is missed."""
    values = {row["name"]: row["value"] for row in rows}
    out = [
        f"{name}: {values[name]} exceeds {limit}" for name, limit in LIMITS.items() if values.get(name, limit) > limit
    ]
    ratio = values.get("delta_one_module_openmv_ota_ratio", OPENMV_RATIO_MIN)
    if ratio < OPENMV_RATIO_MIN:
        out.append(f"delta_one_module_openmv_ota_ratio: {ratio} is below {OPENMV_RATIO_MIN}")
    return out


def main() -> int:
    board = boards.find(BOARD)
    rows = []
    if board.missing_packages():
        print(f"{BOARD}: skipped; apt-get install {' '.join(board.missing_packages())}", file=sys.stderr)
    else:
        rows += verification(board)
    content = build.build_agent(board, build.BuildInfo("0", 0, 0)).payload
    rows.append(bench_rows.row("romfs_bytes", len(content), "B"))
    rows.append(bench_rows.row("deflated_bytes", deflated(content), "B"))
    assert board.architecture is not None
    rows += delta_rows(list(itertools.islice(changes(board.architecture), COMMITS)))
    bench_rows.write("flash_image", rows)
    problems = missed(rows)
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
