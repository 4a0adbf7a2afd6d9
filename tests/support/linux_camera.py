"""A Linux camera: the unpacked package of the platform, a stand-in for systemd, and ssh access to its slots."""

import contextlib
import getpass
import itertools
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

from agent.update.boot_journal import BootJournal
from hal.posix.update_area import FileFlash, Folder
from patrolink.core import resources
from patrolink.emulator.boards.device import end_with_parent

from tests.support.polling import TIMEOUT_S, wait_until

PACKAGE = "patrolink-platform.deb"
LINUX = {"board": "linux", "architecture": "cpython"}  # fields of the header of its images
_NO_RESTART = (0, 2, 3)
_NUMBERS = itertools.count()
_CLIENT = """import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(sys.argv[2].encode())
    sys.exit(s.recv(16) != b"done")
"""


def unused_name() -> str:
    """Return a name of a camera that no other test on this machine uses: runs of the tool lock a camera by it."""
    return f"camera-{os.getpid()}-{next(_NUMBERS)}"


def build_package(folder: Path, trust: Path | None) -> Path:
    """Build the package of the platform with the recipe of the board, and return its path."""
    environment = {**os.environ, "PATROLINK_BUILD": str(folder)}
    environment.pop("PATROLINK_RELEASE_TRUST", None)
    if trust is not None:
        environment["PATROLINK_RELEASE_TRUST"] = str(trust)
    recipe = resources.root() / "boards" / "linux" / "build.sh"
    subprocess.run([str(recipe)], env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)
    return folder / "images" / "linux" / PACKAGE


class _Requests(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        words = {b"start": self.server.camera.start, b"restart": self.server.camera.restart}  # type: ignore[attr-defined]
        try:
            words[self.request.recv(16)]()
        except AssertionError:
            return
        self.request.sendall(b"done")


class LinuxCamera:
    """A camera with the files of a package below a folder. Its service is started by `start`, as systemd would.

    Args:
        folder: Root folder of the camera.
        package: The package of the platform.
        config: Configuration of the device; None: it has none yet.

    Attributes:
        name: Its address for ssh.
        slots: Folder of the update area.
        commands: What restarts the service without a wait, and what starts it.
    """

    def __init__(self, folder: Path, package: Path, config: dict | None) -> None:
        self.name = unused_name()
        self.root = folder
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, timeout=TIMEOUT_S)
        self.slots, self.runtime = folder / "opt/patrolink/slots", folder / "run/patrolink"
        for path in (self.slots, self.runtime, folder / "etc/patrolink", folder / "var/lib/patrolink"):
            path.mkdir(parents=True)
        self._config = folder / "etc/patrolink/config.json"
        if config is not None:
            self._config.write_text(json.dumps({"board": "linux", "state_dir": "state", **config}), encoding="utf-8")
        (folder / "etc/patrolink/state").symlink_to(folder / "var/lib/patrolink")  # tmpfiles.conf
        self._unit = (folder / "usr/lib/systemd/system/patrolink.service").read_text(encoding="utf-8")
        self.log = folder / "journal.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._starting = threading.Lock()
        self._states: list[str] = []
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(folder / "notify"))
        self._server = socketserver.ThreadingUnixStreamServer(str(folder / "control"), _Requests)
        self._server.camera = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        client = folder / "service.py"
        client.write_text(_CLIENT, encoding="utf-8")
        control = folder / "control"
        self.commands = [f"{sys.executable} {client} {control} {word}" for word in ("restart", "start")]

    @property
    def journal(self) -> BootJournal:
        """The boot records as they are on storage."""
        return BootJournal(FileFlash(Folder(str(self.slots))))

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process of the service."""
        assert self._process is not None
        return self._process

    def setting(self, name: str) -> str:
        """Return a setting of the unit."""
        match = re.search(rf"^{name}=(.*)$", self._unit, re.MULTILINE)
        assert match, name
        return match[1]

    def text(self) -> str:
        """Return what the service has written to the journal."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, *starts: str) -> list[str]:
        """Return the lines of the journal that begin with one of these texts."""
        return [line for line in self.text().splitlines() if line.startswith(starts)]

    def start(self, wait: bool = True) -> None:
        """Start the service if it does not run, and wait until it is ready."""
        if not self._config.exists():
            return
        if self._process is None or self._process.poll() is not None:
            self._stopping = False
            launched = threading.Event()
            # The process ends with the thread that has launched it (setpriv --pdeathsig).
            threading.Thread(target=self._supervise, args=(launched,), daemon=True).start()
            assert launched.wait(TIMEOUT_S)
        if wait:
            wait_until(lambda: "READY=1" in self.notifications() or self.process.poll() is not None, self.text)

    def restart(self) -> None:
        """Stop the service, and start it without a wait, as `systemctl restart --no-block`."""
        self.stop()
        self.start(wait=False)

    def stop(self) -> None:
        """Stop the service as `systemctl stop` does."""
        self._end(signal.SIGTERM)

    def switch_off(self) -> None:
        """Take the battery out: the process is killed, and /run is empty afterwards."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.runtime)
        self.runtime.mkdir()

    def close(self) -> None:
        """End all processes of the camera."""
        self._end(signal.SIGKILL)
        self._server.shutdown()
        self._server.server_close()
        self._notified.close()

    def notifications(self) -> list[str]:
        """Return what the process of the service has told the service manager."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._states.append(self._notified.recv(256, socket.MSG_DONTWAIT).decode())
        return self._states

    def _end(self, number: int) -> None:
        with self._starting:
            self._stopping = True
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(TIMEOUT_S)

    def _launch(self) -> None:
        self.notifications()
        self._states = []
        words = self.setting("ExecStart").split()
        assert words[0] == "/usr/bin/python3"
        command = [sys.executable, words[1], *(str(self.root) + word for word in words[2:])]
        folder = str(self.root) + self.setting("WorkingDirectory")
        name, slots = self.setting("Environment").split("=")
        environment = {name: str(self.root) + slots, "RUNTIME_DIRECTORY": str(self.runtime)}
        environment |= {"NOTIFY_SOCKET": str(self.root / "notify"), "WATCHDOG_USEC": "60000000"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                end_with_parent(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )

    def _supervise(self, launched: threading.Event) -> None:
        """Run the service, and start it again as `Restart=on-failure` does."""
        code = None
        while code not in _NO_RESTART:
            with self._starting:
                if self._stopping:
                    return
                self._launch()
            launched.set()
            code = self.process.wait()


class SshServer:
    """A real sshd on loopback that runs the session program of a camera.

    Args:
        folder: Folder for keys and configuration.
        camera: The camera.

    Attributes:
        path: PATH with a client that uses a configuration of its own.
    """

    def __init__(self, folder: Path, camera: LinuxCamera) -> None:
        folder.mkdir()
        self._folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self._port = s.getsockname()[1]
        for name in ("host", "user"):
            self._keygen(folder / name)
        (folder / "session").write_text(session_script(camera), encoding="utf-8")
        (folder / "session").chmod(0o755)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self._port}\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            f"ForceCommand {folder}/session\n"
        )
        self._process = subprocess.Popen(
            end_with_parent([sshd(), "-D", "-e", "-f", str(folder / "sshd_config")]),
            stderr=(folder / "sshd.log").open("wb"),
        )
        wait_until(lambda: "Server listening" in (folder / "sshd.log").read_text(), self.text)
        (folder / "ssh_config").write_text(
            f"Host {camera.name}\nHostName 127.0.0.1\nPort {self._port}\nUser {getpass.getuser()}\n"
            f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "GlobalKnownHostsFile /dev/null\n"
        )
        self.trust(folder / "host.pub")
        client = folder / "bin" / "ssh"
        client.parent.mkdir()
        client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        client.chmod(0o755)
        self.path = f"{client.parent}:{os.environ['PATH']}"

    def text(self) -> str:
        """Return the log of the server."""
        return (self._folder / "sshd.log").read_text(errors="replace")

    def trust(self, public_key: Path | None) -> None:
        """Let the client know a host key, or none."""
        entry = f"[127.0.0.1]:{self._port} {public_key.read_text()}" if public_key else ""
        (self._folder / "known").write_text(entry)

    def other_key(self) -> Path:
        """Return another public key."""
        self._keygen(self._folder / "other")
        return self._folder / "other.pub"

    def close(self) -> None:
        """End the server and its sessions."""
        self._process.terminate()
        self._process.wait()

    def _keygen(self, path: Path) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True, timeout=TIMEOUT_S)


def sshd() -> str:
    """Return the path of sshd; sshd wants an absolute one."""
    path = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    assert path is not None
    return path


def session_script(camera: LinuxCamera) -> str:
    """Return what /usr/sbin/patrolink-slots does, with the paths of the camera."""
    restart, start = camera.commands
    program = camera.root / "usr/lib/patrolink/slot_session.py"
    command = f'{sys.executable} -IB {program} {camera.root}/etc/patrolink "{restart}" "{start}"'
    return f"#!/bin/sh\nexport PATROLINK_SLOTS={camera.slots}\nexec {command}\n"


def use_session(camera: LinuxCamera, folder: Path, monkeypatch) -> None:
    """Put a stand-in for ssh on PATH that runs the session program at once."""
    client = folder / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(session_script(camera), encoding="utf-8")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
