"""Receives an agent image over standard input: the camera's side of the method `linux` of `patrolink flash`.

usage: python3 slot_session.py CONFIG-FOLDER [RESTART-COMMAND START-COMMAND]

Environment: PATROLINK_SLOTS, folder of the update area. The requests are those of the serial receiver. The agent goes
on until an image or a configuration is accepted; then it is restarted, and waits for a lock that the session holds
until it ends: also one that is killed lets the agent start. root writes the configuration, and the owner of the slots
everything else.

Exit code: 0, 1 if the agent cannot be stopped or started, 2 for a wrong call.
"""

import binascii
import contextlib
import hashlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [FOLDER]

import platform_build  # noqa: E402  # of the package
from agent.update.boot_journal import BootJournal  # noqa: E402
from agent.update.installer import ImageRefusedError, Installer, Target  # noqa: E402
from agent.update.provisioned_files import ProvisionedFiles  # noqa: E402
from agent.update.release_keys import ReleaseKeys  # noqa: E402
from agent.update.serial_receiver import FailedError, RefusedError, SerialReceiver  # noqa: E402
from agent.update.slot_target import SlotTarget  # noqa: E402
from agent.update.slots import UpdateArea  # noqa: E402
from compat.inflate_stream import InflateStream  # noqa: E402
from compat.steps import run_to_completion  # noqa: E402
from hal.posix import platform, update_area  # noqa: E402

_SILENCE_S = 60  # of the host, at most: a broken connection must not keep the agent stopped
_COMMAND_S = 120
_PAUSE_S = 90  # for the agent to send its pending frames and to stop
_MACHINE_ID = "/etc/machine-id"
_CONFIG = "config.json"
_CONFIG_MODE = 0o640


@contextlib.contextmanager
def as_root():
    """Act as the user that has started the session, root; files of the slots belong to another one."""
    owner = os.geteuid()
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(owner)


class Service:
    """The service of the agent.

    Args:
        folder: Path of the update area.
        commands: Commands that restart it without a wait and that start it, or none: there is no service.
    """

    def __init__(self, folder, commands):
        self._folder = folder
        self._commands = commands
        self._locks = []

    def pause(self):
        """Stop the agent, and keep it from a start; return whether it ran until now. Raises FailedError."""
        if self._locks:
            return False
        try:
            self._locks.append(update_area.lock(self._folder, update_area.SESSION_LOCK, 0))
        except BlockingIOError:
            raise FailedError("another session writes to this camera")
        self._execute(0)
        try:
            self._locks.append(update_area.lock(self._folder, update_area.AGENT_LOCK, _PAUSE_S))
        except BlockingIOError:
            raise FailedError("the agent does not stop")
        return True

    def resume(self):
        """Let the agent start, and wait until it is ready. Raises FailedError."""
        if self._locks:
            while self._locks:
                self._locks.pop().close()
            self._execute(1)

    def _execute(self, number):
        if not self._commands:
            return
        command = shlex.split(self._commands[number])
        try:
            with as_root():
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=_COMMAND_S, check=True)
        except (OSError, subprocess.SubprocessError) as e:
            raise FailedError("the agent cannot be stopped or started: %s" % e)


class ConfigurationFiles(platform.Files):
    """Files of the folder of the configuration, which the group of this folder may read. Writing stops the agent.

    Args:
        folder: Path of the folder.
        service: Service.
    """

    def __init__(self, folder, service):
        super().__init__(folder)
        self._service = service

    def size(self, name):
        """See the HAL's Files."""
        with as_root():
            return super().size(name)

    def append(self, name, data):
        """See the HAL's Files."""
        self._service.pause()
        with as_root():
            super().append(name, data)

    def read(self, name, offset, buf):
        """See the HAL's Files."""
        with as_root():
            return super().read(name, offset, buf)

    def remove(self, name):
        """See the HAL's Files."""
        with as_root():
            super().remove(name)

    def rename(self, old, new):
        """See the HAL's Files; it is on storage when this returns."""
        with as_root():
            folder = os.stat(self._dir)
            os.chown(self._dir + old, folder.st_uid, folder.st_gid)
            os.chmod(self._dir + old, _CONFIG_MODE)
            super().rename(old, new)
            update_area.Folder(self._dir).sync_names()

    def settings(self):
        """Return the configuration of the device, or None if there is none that can be read."""
        try:
            with as_root(), open(self._dir + _CONFIG, "rb") as f:
                settings = json.load(f)
        except (OSError, ValueError):
            return None
        return settings if isinstance(settings, dict) else None


class ServiceTarget:
    """Takes an image as SlotTarget does; the agent is stopped before anything is written.

    Args:
        service: Service.
        keys: ReleaseKeys.
    """

    def __init__(self, service, keys):
        self._service = service
        self._keys = keys
        self._read()

    @property
    def journal(self):
        """BootJournal as it was when it was read."""
        return self._journal

    @property
    def present(self):
        """See SlotTarget."""
        return self._target.present

    @property
    def source_bytes(self):
        """See SlotTarget."""
        return self._target.source_bytes

    def read_source(self, offset, buffer):
        """See SlotTarget."""
        self._target.read_source(offset, buffer)

    def begin(self, header_data):
        """See SlotTarget. An image that is refused does not stop the agent."""
        try:
            run_to_completion(self._installer.check(header_data))
        except ImageRefusedError as e:
            raise RefusedError(str(e))
        if self._service.pause():
            self._read()  # the agent has written boot records until it stopped
        self._target.begin(header_data)

    def block_digest(self, index):
        """See SlotTarget."""
        return self._target.block_digest(index)

    def write_block(self, index, data):
        """See SlotTarget."""
        self._target.write_block(index, data)

    def finish(self):
        """See SlotTarget."""
        self._target.finish()

    def _read(self):
        flash = platform.open_flash()
        area = UpdateArea(flash, flash.slot_bytes)
        self._journal = BootJournal(flash)
        this = Target(platform_build.BOARD, platform_build.ARCHITECTURE, platform_build.PLATFORM)
        self._installer = Installer(area, self._journal, self._keys.verify, this)
        self._target = SlotTarget(area, self._journal, self._installer)


def unique_id():
    """Return an id of this camera; machine-id itself is not to be disclosed (machine-id(5))."""
    try:
        with open(_MACHINE_ID, "rb") as f:
            return hashlib.sha256(b"patrolink unique id 1\0" + f.read().strip()).hexdigest()[:16]
    except OSError:
        return ""


def describe(target, keys, settings):
    """Return what the camera says of itself, as JSON. Of its configuration it tells the device id alone."""
    present = target.present
    identity = {
        "board": platform_build.BOARD,
        "architecture": platform_build.ARCHITECTURE,
        "unique_id": unique_id(),
        "platform": platform_build.PLATFORM,
        "version": present.version if present else "",
        "rollback": present.rollback if present else None,
        "rollback_floor": target.journal.state.lowest_rollback(),
        "release_keys": [binascii.hexlify(key_id).decode() for key_id in keys.key_ids],
        "configured": settings is not None,
        "device": str(settings.get("device", "")) if settings else "",
    }
    return json.dumps(identity).encode()


def read_input(buffer):
    """Fill a buffer from the host. Raises OSError when the host has closed the connection, or is silent."""
    while buffer:
        if not select.select([0], [], [], _SILENCE_S)[0]:
            raise OSError("no data for %d s" % _SILENCE_S)
        n = os.readv(0, [buffer])
        if not n:
            raise OSError("the connection has ended")
        buffer = buffer[n:]


def write_output(data):
    """Write bytes to the host."""
    while data:
        data = data[os.write(1, data) :]


def main():
    """Serve one host; return the exit code."""
    if len(sys.argv) not in (2, 4):
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    os.umask(0o077)
    folder = os.environ["PATROLINK_SLOTS"]
    if os.getuid() == 0:
        os.seteuid(os.stat(folder).st_uid)  # files belong to the agent
    service = Service(folder, sys.argv[2:])
    files = ConfigurationFiles(sys.argv[1], service)
    keys = ReleaseKeys(platform_build.RELEASE_KEYS)
    target = ServiceTarget(service, keys)
    code = 0
    try:
        SerialReceiver(
            read_input,
            write_output,
            InflateStream,
            target,
            lambda: describe(target, keys, files.settings()),
            ProvisionedFiles(files),
        ).run()
    except OSError as e:
        print("slots: %s" % e, file=sys.stderr)
    finally:
        try:
            service.resume()
        except FailedError as e:
            print("slots: %s" % e, file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
