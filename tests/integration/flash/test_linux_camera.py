"""A Linux camera: package of the platform, agent images in slots, and `patrolink flash --method linux` through sshd."""

import contextlib
import json
import os
import pty
import stat
import threading
from pathlib import Path

import pytest
from patrolink.cli import main
from patrolink.core import boards
from patrolink.core.errors import DeviceError, UserError
from patrolink.flash import flash_image, ssh_link
from patrolink.flash.image import build, image_file, module_archive
from patrolink.flash.methods.linux_ssh import LinuxMethod
from patrolink.flash.records import RefusedError

from tests.support.flash_images import write_signed_image
from tests.support.linux_camera import LINUX, LinuxCamera, SshServer, build_package, unused_name, use_session
from tests.support.polling import wait_until
from tests.support.provision_site import ProvisionedSite
from tests.support.release_keys import TRUST, private_key
from tests.support.setup_plan import is_installed

BOARD = boards.find("linux")
CRASH = b"raise RuntimeError('a bug of this image')\n"
pytestmark = pytest.mark.skipif(not is_installed("dpkg-deb"), reason="dpkg is not installed")
needs_sshd = pytest.mark.skipif(not is_installed("sshd"), reason="openssh-server is not installed")


@pytest.fixture(scope="module")
def agent() -> dict[str, bytes]:
    """The files of the agent image."""
    return module_archive.read(build.build_agent(BOARD, build.BuildInfo("1.0", 1, 1)).payload)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return build_package(tmp_path_factory.mktemp("package"), TRUST)


@pytest.fixture
def camera(tmp_path, package, broker):
    """A camera that is switched off."""
    receiver, line = pty.openpty()
    config = {
        "device": unused_name(),
        "key": "00" * 31 + "01",
        "broker": {"host": "127.0.0.1", "port": broker.port},
        "gps_uart": os.ttyname(line),
    }
    camera = LinuxCamera(tmp_path / "camera", package, config)
    yield camera
    camera.close()
    os.close(receiver)
    os.close(line)


@pytest.fixture
def ssh(tmp_path, camera, monkeypatch):
    """A real sshd on the camera, and a client that knows it."""
    server = SshServer(tmp_path / "ssh", camera)
    monkeypatch.setenv("PATH", server.path)
    yield server
    server.close()


@pytest.fixture
def session(tmp_path, camera, monkeypatch):
    """A stand-in for ssh that runs the session program at once."""
    use_session(camera, tmp_path, monkeypatch)


def image(path: Path, files: dict[str, bytes], **fields) -> Path:
    return write_signed_image(path, module_archive.write(files), **{**LINUX, **fields})


def flash(target: str, path: Path, *options: str) -> int:
    return main(["flash", str(path), target, "--trust", str(TRUST), "--retries", "0", *options])


def confirmed(camera: LinuxCamera, slot: int) -> bool:
    return camera.journal.state.slots[slot].confirmed


@needs_sshd
def test_images_go_through_ssh_into_slots_and_are_confirmed_by_the_broker(camera, ssh, agent, tmp_path, capsys):
    camera.start()
    wait_until(lambda: camera.lines("link: session 1"), camera.text)
    assert not camera.lines("slot ") and camera.journal.generation == 0
    first = image(tmp_path / "first.plimg", agent)
    assert flash(camera.name, first, "--dry-run") == 0 and camera.process.poll() is None
    assert len(camera.lines("device: ready")) == 1  # a session that writes nothing does not stop the agent
    capsys.readouterr()
    assert flash(camera.name, first, "--json") == 0, ssh.text()
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (record["flash_state"], record["board"], len(record["unique_id"])) == ("flashed", "linux", 16)
    wait_until(lambda: confirmed(camera, 0), camera.text)
    assert camera.lines("slot ") == ["slot a, on trial"]
    wait_until(lambda: camera.journal.state.floor == 1, camera.text)
    assert flash(camera.name, first) == 0
    assert "unchanged" in capsys.readouterr().out
    second = image(tmp_path / "second.plimg", {**agent, "notes.txt": b"2"}, rollback=2, version="2.0")
    assert flash(camera.name, second) == 0
    wait_until(lambda: confirmed(camera, 1), camera.text)
    assert camera.lines("slot ") == ["slot a, on trial", "slot b, on trial"]
    assert camera.journal.state.slots[0].attempts == 0  # the session has stopped the agent in order
    assert flash(camera.name, first) == 1
    assert "below the floor of the device, 2" in capsys.readouterr().out


@needs_sshd
def test_unknown_and_changed_host_keys_are_refused(camera, ssh, agent, tmp_path, capsys):
    path = image(tmp_path / "first.plimg", agent)
    for key in (None, ssh.other_key()):
        ssh.trust(key)
        assert flash(camera.name, path) == 1
        assert "Host key verification failed; compare its key with the camera's" in capsys.readouterr().out
    assert camera.journal.generation == 0
    assert not (camera.slots / "a").exists()


def test_image_with_a_bug_makes_room_for_the_previous_one(camera, session, agent, tmp_path):
    camera.start()
    assert flash(camera.name, image(tmp_path / "first.plimg", agent)) == 0
    wait_until(lambda: confirmed(camera, 0), camera.text)
    broken = {**agent, "app/start.py": CRASH}
    assert flash(camera.name, image(tmp_path / "second.plimg", broken, rollback=2, version="2.0")) == 0
    wait_until(lambda: camera.lines("slot ")[-1] == "slot a", camera.text)
    assert camera.lines("slot ")[1:] == ["slot b, on trial"] * 3 + ["slot a"]
    assert camera.journal.state.slots[1].failed and camera.journal.state.floor == 1
    wait_until(lambda: len(camera.lines("link: session 1")) >= 2, camera.text)


def test_configuration_that_only_the_trial_refuses_is_a_fault_of_the_image(camera, session, agent, tmp_path):
    camera.start()
    refusing = b"def start(path, load_hal, log, slot=None, safe=False):\n    return 2\n"
    assert flash(camera.name, image(tmp_path / "first.plimg", {**agent, "app/start.py": refusing})) == 0
    wait_until(lambda: camera.lines("safe mode"), camera.text)
    assert camera.lines("slot ")[:3] == ["slot a, on trial"] * 3


def test_killed_trial_uses_up_its_attempts_and_a_planned_stop_does_not(camera, session, agent, tmp_path, broker):
    camera.start()
    assert flash(camera.name, image(tmp_path / "first.plimg", agent)) == 0
    wait_until(lambda: confirmed(camera, 0), camera.text)
    config = camera.root / "etc/patrolink/config.json"
    settings = json.loads(config.read_text())
    settings["broker"]["port"] = 1  # nothing is acknowledged
    config.write_text(json.dumps(settings))
    assert flash(camera.name, image(tmp_path / "second.plimg", {**agent, "n": b"2"}, rollback=2, version="2.0")) == 0
    wait_until(lambda: len(camera.lines("device: ready")) == 3, camera.text)
    assert camera.journal.state.slots[1].attempts == 1
    camera.stop()
    assert camera.process.returncode == 0 and camera.journal.state.slots[1].attempts == 0
    camera.start()
    for attempts in (1, 2, 3):
        wait_until(lambda n=attempts: camera.journal.state.slots[1].attempts == n, camera.text)
        camera.switch_off()
        camera.start()
    assert camera.journal.state.slots[1].failed
    wait_until(lambda: camera.lines("slot ")[-1] == "slot a", camera.text)


def test_configuration_that_cannot_be_used_ends_the_service(camera):
    (camera.root / "etc/patrolink/config.json").write_text("{}")
    camera.start()
    assert camera.process.wait(60) == 2 and "'device' is missing" in camera.text()


def test_watchdog_of_the_service_is_fed(camera):
    camera.start()
    wait_until(lambda: "WATCHDOG=1" in camera.notifications(), camera.text)


def test_pipe_takes_presses_of_buttons(camera):
    camera.start()
    for _ in range(2):  # the pipe does not end with its writer
        before = len(camera.lines("sos "))
        with (camera.runtime / "buttons").open("w") as pipe:
            pipe.write("sos\n")
        wait_until(lambda n=before: len(camera.lines("sos ")) > n, camera.text)


def test_bugs_of_the_package_end_in_safe_mode_until_power_on(camera):
    start = camera.root / "usr/lib/patrolink/app/start.py"
    source = start.read_text()
    start.write_text(source.replace("    hal = load_hal()\n", "    hal = load_hal()\n    assert safe, 'a bug'\n"))
    assert start.read_text() != source
    camera.start()
    wait_until(lambda: camera.lines("device: ready"), camera.text)
    assert len(camera.lines("safe mode after 3 crashes")) == 1
    camera.switch_off()
    camera.start()
    wait_until(lambda: len(camera.lines("device: ready")) == 2, camera.text)
    assert len(camera.lines("AssertionError: a bug")) == 6


def test_images_that_must_not_run_are_refused_by_tool_and_camera(camera, session, agent, tmp_path, capsys):
    """The camera refuses also if the host does not look; the agent is not stopped, and no file changes."""
    camera.start()
    wait_until(lambda: camera.lines("device: ready"), camera.text)
    for key, fields, change, by_tool, by_camera in (
        ("another", {}, False, "signature: unknown key", "a release key that this platform does not have"),
        ("mps2_an385", {}, True, "signature: invalid", "the signature of the image is not valid"),
        ("mps2_an385", {"minimum_platform": 2}, False, "needs platform 2, but", "needs platform 2, this device has 1"),
        ("mps2_an385", {"board": "unix"}, False, "for board unix", "image for board unix, this is linux"),
    ):
        path = write_signed_image(tmp_path / "new.plimg", b"content", private_key(key), **{**LINUX, **fields})
        if change:
            altered = image_file.load(path)
            image_file.save(path, altered._replace(header=altered.header._replace(version="9.9")))
        assert flash(camera.name, path, "--method", "linux") in (1, 2)
        printed = capsys.readouterr()
        assert by_tool in printed.out + printed.err or "does not reach board" in printed.err
        method = LinuxMethod(camera.name, threading.Event(), flash_image.load(path))
        with contextlib.closing(method):
            method.identify()
            with pytest.raises(RefusedError, match=by_camera):
                method.write(None, lambda done, total: None)
    assert {path.name for path in camera.slots.iterdir()} == {"agent.lock", "session.lock"}
    assert camera.process.poll() is None and len(camera.lines("device: ready")) == 1


def test_killed_session_lets_the_agent_start(camera, session, agent, tmp_path):
    camera.start()
    wait_until(lambda: camera.lines("device: ready"), camera.text)
    method = LinuxMethod(camera.name, threading.Event(), flash_image.load(image(tmp_path / "first.plimg", agent)))

    def kill(done: int, total: int) -> None:
        method._link._process.kill()  # the stand-in for ssh is the session
        raise KeyboardInterrupt

    with contextlib.closing(method):
        method.identify()
        with pytest.raises(KeyboardInterrupt):
            method.write(None, kill)
    wait_until(lambda: len(camera.lines("device: ready")) == 2, camera.text)
    assert camera.lines("slot ") == []
    assert flash(camera.name, image(tmp_path / "first.plimg", agent)) == 0
    wait_until(lambda: confirmed(camera, 0), camera.text)


def test_second_session_is_refused_while_one_writes(camera, session, agent, tmp_path):
    new = flash_image.load(image(tmp_path / "first.plimg", agent))
    methods = [LinuxMethod(camera.name, threading.Event(), new) for _ in range(2)]
    with contextlib.closing(methods[0]), contextlib.closing(methods[1]):
        for method in methods:
            method.identify()
        methods[0].write(None, lambda done, total: None)
        with pytest.raises(DeviceError, match="another session writes to this camera"):
            methods[1].write(None, lambda done, total: None)
        methods[0].verify(None)
        methods[0].release()
    wait_until(lambda: confirmed(camera, 0), camera.text)


def test_broken_session_starts_the_agent_again_and_the_next_one_sends_the_rest(camera, session, agent, tmp_path):
    camera.start()
    wait_until(lambda: camera.lines("device: ready"), camera.text)
    new = flash_image.load(image(tmp_path / "first.plimg", agent))
    method = LinuxMethod(camera.name, threading.Event(), new)
    method.identify()

    def break_connection(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.write(None, break_connection)
    method._link.close()  # no last words, as when the network is gone
    wait_until(lambda: len(camera.lines("device: ready")) == 2, camera.text)
    assert camera.lines("slot ") == []
    sent = []
    method = LinuxMethod(camera.name, threading.Event(), new)
    with contextlib.closing(method):
        method.identify()
        write_block = method._session.write_block
        method._session.write_block = lambda number, *rest: (sent.append(number), write_block(number, *rest))
        method.write(None, lambda done, total: None)
        method.verify(None)
        method.release()
    blocks = (new.header.size + 4095) // 4096
    assert 0 < len(sent) <= blocks // 2 + 1
    wait_until(lambda: confirmed(camera, 0), camera.text)


def test_camera_is_flashed_and_provisioned_in_one_batch(tmp_path, package, agent, broker, monkeypatch, capsys):
    receiver, line = pty.openpty()
    site = ProvisionedSite(tmp_path, port=broker.port, gps=os.ttyname(line))
    site.write_table("S-1,camera-1,Harbour circle,linux,,\n")
    camera = LinuxCamera(tmp_path / "camera", package, None)
    try:
        use_session(camera, tmp_path, monkeypatch)
        camera.start()
        assert camera.text() == ""
        path = image(tmp_path / "first.plimg", agent)
        batch = ["--batch", "monday", "--provision", str(site.folder / "devices.csv")]
        assert flash(camera.name, path, *batch) == 0, capsys.readouterr().out
        wait_until(lambda: confirmed(camera, 0), camera.text)
        config = camera.root / "etc/patrolink/config.json"
        assert json.loads(config.read_text())["device"] == "camera-1"
        assert stat.S_IMODE(config.stat().st_mode) == 0o640
        assert json.loads(config.read_text())["key"] not in "".join(capsys.readouterr())
        assert flash(camera.name, path, *batch, "--resume") == 0
        assert len(camera.lines("device: ready")) == 1
    finally:
        camera.close()
        os.close(receiver)
        os.close(line)


def test_camera_without_platform_and_bad_addresses_are_named(tmp_path, agent, monkeypatch, capsys):
    path = image(tmp_path / "first.plimg", agent)
    client = tmp_path / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(
        '#!/bin/sh\necho "bash: line 1: /usr/sbin/patrolink-slots: No such file or directory" >&2; exit 127'
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    assert flash(unused_name(), path) == 1
    assert "install the package patrolink-platform on the camera first" in capsys.readouterr().out
    for target in ("a b", "root@", "host;reboot", "@host"):
        assert flash(target, path) == 2
        assert "no address of a camera" in capsys.readouterr().err
    with pytest.raises(UserError, match="no address of a camera"):
        ssh_link.check_target("-oProxyCommand=x")
    client.unlink()
    monkeypatch.setenv("PATH", str(client.parent))
    assert flash(unused_name(), path) == 1
    assert "apt-get install openssh-client" in capsys.readouterr().out
