"""The package of the platform of Linux cameras: reproducible, unpacked by dpkg, its unit checked by systemd."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patrolink.core import boards, resources
from patrolink.flash import flash_image
from patrolink.flash.methods.linux_ssh import LinuxMethod

from tests.support.flash_images import write_signed_image
from tests.support.linux_camera import build_package
from tests.support.polling import TIMEOUT_S
from tests.support.release_keys import TRUST
from tests.support.setup_plan import is_installed

UNIT = "usr/lib/systemd/system/patrolink.service"
UID = 61_234  # of the agent in these tests
EXPOSURE_MAX = 25  # tenths, as `systemd-analyze security` measures it
pytestmark = pytest.mark.skipif(not is_installed("dpkg-deb"), reason="dpkg is not installed")
needs_systemd = pytest.mark.skipif(not is_installed("systemd-analyze"), reason="systemd is not installed")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to act as another user")


def run(*command, **options) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=TIMEOUT_S, check=True, **options
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return build_package(tmp_path_factory.mktemp("package"), TRUST)


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A folder that all users can reach; those of pytest belong to the user that runs the tests."""
    with tempfile.TemporaryDirectory(prefix="patrolink-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def root(shared_path, package) -> Path:
    """The root folder of a camera, in which dpkg has unpacked the package."""
    folder = shared_path / "root"
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").touch()
    for name in ("info", "updates"):
        (folder / "var/lib/dpkg" / name).mkdir()
    run("dpkg", f"--root={folder}", "--force-not-root", "--log=/dev/null", "--unpack", package)
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    return folder


def test_builds_are_equal_to_the_byte(package, tmp_path, monkeypatch):
    """Whatever the place of the checkout, umask and times of files."""
    checkout = tmp_path / "checkout"
    for name in ("boards", "device", "protocol", "build/device-lib"):
        shutil.copytree(resources.root() / name, checkout / name, copy_function=shutil.copyfile)
    shutil.copyfile(resources.root() / "LICENSE", checkout / "LICENSE")
    (checkout / "boards/linux/build.sh").chmod(0o700)
    monkeypatch.setenv("PATROLINK_HOME", str(checkout))
    old = os.umask(0o077)
    try:
        rebuilt = build_package(tmp_path / "again", TRUST)
    finally:
        os.umask(old)
    assert rebuilt.read_bytes() == package.read_bytes()
    assert build_package(tmp_path / "other", None).read_bytes() != package.read_bytes()


def test_package_declares_what_it_needs_and_contains_no_bytecode(package):
    fields = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", package).stdout.splitlines() if ": " in line)
    assert fields["Package"] == "patrolink-platform" and fields["Architecture"] == "all"
    assert fields["Depends"] == "python3 (>= 3.10), python3-cryptography, systemd (>= 247)"
    entries = [line.split() for line in run("dpkg-deb", "-c", package).stdout.splitlines()]
    assert {entry[1] for entry in entries} == {"root/root"}
    assert {entry[0] for entry in entries} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    names = [entry[-1] for entry in entries]
    assert not [name for name in names if ".pyc" in name or "__pycache__" in name]
    assert {"./usr/sbin/patrolink-slots", f"./{UNIT}", "./usr/lib/patrolink/agent/update/selection.py"} <= set(names)


def test_dpkg_unpacks_and_verifies_the_package(root):
    assert run("dpkg", f"--root={root}", "--verify", "patrolink-platform").stdout == ""
    (root / "usr/lib/patrolink/boot_service.py").write_text("")
    changed = subprocess.run(
        ["dpkg", f"--root={root}", "--verify", "patrolink-platform"], capture_output=True, text=True
    )
    assert "boot_service.py" in changed.stdout
    assert not (root / "opt").exists()  # slots belong to the device, not to the package


def test_platform_accepts_the_release_keys_of_its_build(root):
    program = "import platform_build as p; print(p.BOARD, p.ARCHITECTURE, p.PLATFORM, len(p.RELEASE_KEYS))"
    done = run(sys.executable, "-c", program, cwd=root / "usr/lib/patrolink")
    assert done.stdout.split() == ["linux", "cpython", "1", "1"]


def test_slots_have_the_size_of_the_board():
    from hal.posix.update_area import SLOT_BYTES

    update = boards.find("linux").update
    assert update is not None and update.slot_kb * 1024 == SLOT_BYTES


@needs_systemd
def test_unit_is_valid_and_hardened(root, tmp_path):
    unit = root / UNIT
    done = run("systemd-analyze", "verify", "--man=no", unit, cwd=tmp_path)
    assert "patrolink" not in done.stderr.replace(str(unit), "")
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit)


@needs_systemd
def test_scripts_use_files_that_the_package_has(root):
    folder = root / "var/lib/dpkg/info"
    script = (folder / "patrolink-platform.postinst").read_text()
    for kind in ("sysusers", "tmpfiles"):
        assert f"systemd-{kind}" in script and (root / f"usr/lib/{kind}.d/patrolink.conf").is_file()
    for name in ("postinst", "prerm"):
        run("sh", "-n", folder / f"patrolink-platform.{name}")
    slots = (root / "usr/sbin/patrolink-slots").read_text()
    assert (
        "/usr/lib/patrolink/slot_session.py /etc/patrolink" in slots
        and "systemctl restart --no-block patrolink.service" in slots
    )
    run("sh", "-n", root / "usr/sbin/patrolink-slots")


@needs_root
@needs_systemd
def test_agent_gets_a_user_and_slots_of_its_own(root):
    run("systemd-sysusers", f"--root={root}", "patrolink.conf")
    run("systemd-tmpfiles", f"--root={root}", "--create", "patrolink.conf")
    uid = next(int(line.split(":")[2]) for line in (root / "etc/passwd").open() if line.startswith("patrolink:"))
    slots = (root / "opt/patrolink/slots").stat()
    assert uid and slots.st_uid == uid and stat.S_IMODE(slots.st_mode) == 0o700
    assert stat.S_IMODE((root / "etc/patrolink").stat().st_mode) == 0o750


@needs_root
def test_session_writes_slots_as_their_owner_and_commands_the_service_as_root(root, shared_path, monkeypatch):
    slots = root / "opt/patrolink/slots"
    slots.mkdir(parents=True)
    os.chown(slots, UID, UID)
    for parent in slots.parents:  # whatever the umask
        if parent.is_relative_to(root):
            parent.chmod(0o755)
    service, client = shared_path / "service", shared_path / "bin" / "ssh"
    service.write_text(f'#!/bin/sh\necho "$1 $(id -u)" >>{shared_path}/called\n')
    client.parent.mkdir()
    program = (
        "import random, runpy, sys; from cryptography import exceptions; "
        "from cryptography.hazmat.primitives import hashes; "
        "from cryptography.hazmat.primitives.asymmetric import ec, utils; "  # from a folder that only root may read
        f"sys.argv = ['', '{shared_path}', '{service} restart', '{service} start']; "
        f"runpy.run_path('{root}/usr/lib/patrolink/slot_session.py', run_name='__main__')"
    )
    client.write_text(f'#!/bin/sh\nPATROLINK_SLOTS={slots} exec {sys.executable} -IB -c "{program}"\n')
    for script in (service, client):
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    image = write_signed_image(shared_path / "a.plimg", b"content" * 2000, board="linux", architecture="cpython")
    method = LinuxMethod("camera", threading.Event(), flash_image.load(image))
    method.identify()
    method.write(None, lambda done, total: None)
    method.verify(None)
    method.release()
    method.close()
    assert (shared_path / "called").read_text() == "restart 0\nstart 0\n"
    files = {path.name: path.stat() for path in slots.iterdir()}
    assert files.keys() == {"a", "boot", "agent.lock", "session.lock"} and {
        entry.st_uid for entry in files.values()
    } == {UID}
    assert {stat.S_IMODE(files[name].st_mode) for name in ("a", "boot")} == {0o600}
    data = (slots / "a").read_bytes()
    assert hashlib.sha256(data[4096 : 4096 + 14000]).digest() == hashlib.sha256(b"content" * 2000).digest()


def test_image_build_is_reproducible_and_inspected(tmp_path, capsys):
    from patrolink.cli import main

    paths = [tmp_path / f"{n}.plimg" for n in range(2)]
    for path in paths:
        assert main(["image", "build", "--board", "linux", "--rollback", "3", "--out", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    capsys.readouterr()
    assert main(["image", "inspect", str(paths[0]), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["architecture"] == "cpython"
    files = {line["path"] for line in lines if line["record"] == "image_file"}
    assert {"app/start.py", "hal/posix/update_area.py", "agent/__init__.py", "umqtt/simple.py"} <= files
    assert not files & {"boot.py", "platform_build.py", "app/serial_update.py", "hal/baremetal/platform.py"}
