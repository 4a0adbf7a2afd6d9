"""Measure the package: size of each extra, and time from an empty virtual environment to the first decoded fix.

Writes build/bench/install.json. Libraries come from the package index that pip is configured for, without pip's cache.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_rows

ROOT = Path(__file__).resolve().parent.parent.parent
EXTRAS = ("", "report", "hub", "video", "emulator", "all")
_NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")


def run(*command: str, folder: Path) -> str:
    """Run a command in a folder and return its output."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def megabytes(environment: Path) -> float:
    """Return the size of the packages in an environment, without pip and setuptools."""
    files = [
        file
        for path in next(environment.glob("lib/python*/site-packages")).iterdir()
        if not path.name.startswith(_NOT_OURS)
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    ]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def install(wheel: Path, extra: str, folder: Path) -> Path:
    """Install the wheel with an extra into a new environment and return the environment."""
    environment = folder / f"venv-{extra or 'core'}"
    run(sys.executable, "-m", "venv", str(environment), folder=folder)
    target = f"{wheel}[{extra}]" if extra else str(wheel)
    run(str(environment / "bin/pip"), "install", "-q", "--no-cache-dir", target, folder=folder)
    return environment


def first_fix_s(wheel: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds of the installation, and those until the first fix of an emulated board was decoded."""
    start_s = time.monotonic()
    environment = install(wheel, "emulator", folder)
    installed_s = time.monotonic()
    patrolink = str(environment / "bin/patrolink")
    run(patrolink, "emulate", "--fixes", "1", "--batch", "1", "--speed", "10", "--out", "patrol", folder=folder)
    summary = json.loads((folder / "patrol/summary.json").read_text())
    assert summary["fixes_decoded"] == 1, summary
    return installed_s - start_s, time.monotonic() - start_s


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="patrolink-install-") as name:
        folder = Path(name)
        command = (sys.executable, "-m", "build", "-q", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
        run(*command, folder=folder)
        wheel = next(folder.glob("*.whl"))
        rows.append(bench_rows.row("wheel", round(wheel.stat().st_size / 1e6, 2), "MB"))
        installed_s, fix_s = first_fix_s(wheel, folder)
        rows.append(bench_rows.row("empty environment to installed emulator", round(installed_s, 1), "s"))
        rows.append(bench_rows.row("empty environment to first decoded fix", round(fix_s, 1), "s"))
        for extra in EXTRAS:
            size = megabytes(folder / "venv-emulator" if extra == "emulator" else install(wheel, extra, folder))
            rows.append(bench_rows.row(f"installed, {extra or 'core'}", size, "MB"))
    bench_rows.write("install", rows)


if __name__ == "__main__":
    main()
