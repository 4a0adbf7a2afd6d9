"""A session on a Linux camera through the unmodified ssh as a child process, whose host key it checks."""

import contextlib
import os
import re
import select
import subprocess
import tempfile
import threading
import time

from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.text import printable
from patrolink.flash.link import Link

COMMAND = "/usr/sbin/patrolink-slots"
_TARGET = re.compile(r"(?:ssh://)?(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9\[][A-Za-z0-9._:%\]-]*/?")
# No question is ever asked: an unknown host key, or one that has changed, ends the command.
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "ControlPath": "none",
}
_LOOK_S, _WRITE_S, _END_S = 0.1, 30.0, 150.0
_READ_BYTES = 65536
_ERROR_BYTES = 300  # of what ssh says: its last line counts


def check_target(target: str) -> None:
    """Raise UserError if this is not an address for ssh."""
    if not _TARGET.fullmatch(target):
        raise UserError(
            f"{target}: no address of a camera; give [USER@]HOST, ssh://[USER@]HOST:PORT or a name of ssh_config"
        )


class SshLink(Link):
    """Bytes to and from the session program of a camera.

    Args:
        target: Address for ssh.
        cancel: Set when the operator stops the command.

    Raises:
        DeviceError: ssh is not installed.
    """

    def __init__(self, target: str, cancel: threading.Event) -> None:
        super().__init__(target, cancel)
        options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open until `close`
        try:
            self._process = subprocess.Popen(
                ["ssh", "-T", *options, "--", target, COMMAND],  # noqa: S607 - the operator's, on PATH
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for this program, which ends the session in order
            )
        except OSError as e:
            self._errors.close()
            raise DeviceError(
                f"{target}: ssh cannot be started ({e.strerror}); apt-get install openssh-client"
            ) from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def write(self, data: bytes) -> None:
        """See `Link.write`."""
        deadline_s = time.monotonic() + _WRITE_S
        view = memoryview(data)
        while view:
            self.check_cancelled()
            if time.monotonic() > deadline_s:
                raise DeadlineError(f"{self.port}: the camera takes no data; {self._remedy()}")
            if not select.select([], [self._stdin], [], _LOOK_S)[1]:
                continue
            try:
                view = view[self._stdin.write(view) or 0 :]
            except OSError:
                raise self._ended() from None

    def wait_end(self) -> None:
        """Wait until the session has ended: the agent is started again.

        Raises:
            DeviceError: It is not.
        """
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise DeadlineError(
                f"{self.port}: the agent did not start within {_END_S:g} s; look at `journalctl -u patrolink` there"
            ) from None
        if code:
            raise DeviceError(
                f"{self.port}: the image is installed, but the agent did not start again: {self._last_words()}; look "
                "at `journalctl -u patrolink` there"
            )

    def close(self) -> None:
        """See `Link.close`: the camera's side ends by itself, and starts the agent."""
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._errors.close()

    def _receive(self) -> bytes:
        if not select.select([self._stdout], [], [], _LOOK_S)[0]:
            return b""
        data = os.read(self._stdout.fileno(), _READ_BYTES)
        if not data:
            raise self._ended()
        return data

    def _remedy(self) -> str:
        return f"check network and power of the camera, and that `ssh {self.port}` works, then repeat the command"

    def _ended(self) -> DeviceError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_S)
        words = self._last_words() or "the camera closed the connection"
        remedy = self._remedy()
        if "host key" in words.lower():
            remedy = f"compare its key with the camera's, then enter it with `ssh {self.port}`"
        elif "not found" in words or "No such file" in words:
            remedy = "install the package patrolink-platform on the camera first"
        return DeviceError(f"{self.port}: {words}; {remedy}")

    def _last_words(self) -> str:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _ERROR_BYTES))
        lines = self._errors.read().decode(errors="replace").split("\n")
        words = [line.strip().rstrip(".") for line in lines if line.strip()]
        return printable(words[-1]) if words else ""
