"""Checks of Python, of the libraries of the tool and its extras, and of what the package carries."""

import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from patrolink.core import resources
from patrolink.core.errors import UserError
from patrolink.doctor.finding import OK, PROBLEM, WARNING, Finding

PACKAGE = "patrolink"
_PYTHON_MIN = (3, 10)
_NOT_FOR_USERS = {"all", "bench", "build", "docs", "test"}

VersionOf = Callable[[str], "str | None"]


def check_python(version: tuple[int, ...], description: str) -> Finding:
    """Return the finding about the version of Python."""
    if version < _PYTHON_MIN:
        needed = ".".join(map(str, _PYTHON_MIN))
        fix = f"install Python {needed} or newer, and the tool with it"
        return Finding(PROBLEM, "python", f"{description} is too old", fix)
    return Finding(OK, "python", description)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(requirements: Iterable[str], extra: str, version_of: VersionOf = installed_version) -> list[str]:
    """Return the requirements that are not met, by name.

    Args:
        requirements: All requirements of the package, as in its metadata.
        extra: Extra whose requirements are checked, with those of the extras that it includes; empty: none of an extra.
        version_of: Returns the installed version of a distribution, or None.
    """
    requirements = list(requirements)
    pending, done, missing = [extra], set(), set()
    while pending:
        name = pending.pop()
        done.add(name)
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"extra": name}):
                continue
            if (marker is None or not _needs_extra(requirement)) and name:
                continue  # required without the extra too
            if canonicalize_name(requirement.name) == PACKAGE:
                pending += requirement.extras - done
                continue
            version = version_of(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                missing.add(requirement.name)
    return sorted(missing)


def _needs_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra" in str(requirement.marker)


def check_libraries(
    requirements: list[str], extras: Iterable[str], version_of: VersionOf = installed_version
) -> list[Finding]:
    """Return the findings about required libraries and about each extra."""
    missing = unmet(requirements, "", version_of)
    if missing:
        fix = f"run `pip install --upgrade {PACKAGE}`"
        findings = [Finding(PROBLEM, "libraries", f"missing or too old: {', '.join(missing)}", fix)]
    else:
        findings = [Finding(OK, "libraries", "all required ones are installed")]
    complete = []
    for extra in sorted(set(extras) - _NOT_FOR_USERS):
        missing = unmet(requirements, extra, version_of)
        if missing:
            fix = f"run `pip install '{PACKAGE}[{extra}]'`"
            findings.append(Finding(WARNING, f"extra {extra}", f"missing or too old: {', '.join(missing)}", fix))
        else:
            complete.append(extra)
    if complete:
        findings.append(Finding(OK, "extras", f"complete: {', '.join(complete)}"))
    return findings


def check_file(check: str, path: Path, without: str, fix: str) -> Finding:
    """Return the finding about a file that something optional needs."""
    if path.is_file():
        return Finding(OK, check, str(path))
    return Finding(WARNING, check, f"{path.name} is missing: {without}", fix)


def check_folder(check: str, folder: Path, fix: str) -> Finding:
    """Return the finding about a folder that must be writable; it is not created."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Finding(OK, check, f"{folder} is writable")
    except OSError as e:
        return Finding(WARNING, check, f"{folder}: {e.strerror}: emulated devices cannot be deployed", fix)


def check_resources() -> list[Finding]:
    """Check the sources of devices, their library umqtt, the film, and the folders that tools write to."""
    try:
        root, build = resources.root(), resources.build_folder()
    except UserError as e:
        return [Finding(PROBLEM, "sources", str(e))]
    findings = [Finding(OK, "sources", str(root))]
    umqtt = root / "build" / "device-lib" / "umqtt" / "simple.py"
    findings.append(check_file("umqtt", umqtt, "devices cannot be emulated", f"run `make -C {root} device-lib`"))
    film = build / "media" / "bikes.mp4"
    if build == root / "build":
        findings.append(check_file("film", film, "emulated cameras show a test pattern", f"run `make -C {root} media`"))
    else:
        findings.append(Finding(OK, "film", "emulated cameras show a test pattern; --film names another one"))
    findings.append(check_folder("build folder", build, "set XDG_CACHE_HOME to a folder that you may write to"))
    try:
        findings.append(Finding(OK, "temporary folder", tempfile.gettempdir()))
    except FileNotFoundError as e:
        fix = "set TMPDIR to a folder that you may write to"
        findings.append(Finding(PROBLEM, "temporary folder", str(e.strerror), fix))
    return findings


def check_all() -> list[Finding]:
    """Check Python, libraries and resources."""
    description = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform(terse=True)}"
    findings = [check_python(sys.version_info[:3], description)]
    try:
        metadata = importlib.metadata.metadata(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        fix = "install it: run `pip install -e .` in the checkout"
        findings.append(Finding(WARNING, "libraries", "not checked: the package is not installed", fix))
    else:
        requirements = importlib.metadata.requires(PACKAGE) or []
        findings += check_libraries(requirements, metadata.get_all("Provides-Extra") or [])
    return findings + check_resources()
