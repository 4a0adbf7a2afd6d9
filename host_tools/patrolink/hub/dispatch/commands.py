"""Commands of dispatchers to devices. Each is audited before it is sent, and expires after 30 seconds."""

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple, Protocol

from patrolink_messages import COMMAND
from patrolink_names import NAMES, TIMER_COMMAND_EXPIRY_MS

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.config import Site
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.persistence import PersistentCounter

_ACTIONS = {name: code for code, name in NAMES["command", "action"].items()}
_AMBIENT = "ambient"  # value of the command `call` that opens the microphone
_ENDING_ACTIONS = ("live_view_stop",)  # storage that is full must not keep a camera running
_OF_BARRED = ("stun", "revive", "rotate_key")  # commands that a barred device is sent
_MAX_OPERATOR_BYTES, _MAX_NAME_BYTES, _MAX_VALUE_BYTES = 40, 40, 120


class SentCommand(NamedTuple):
    """A command that was sent. `expires_ms` is Unix time."""

    id: int
    expires_ms: int


class PrivateGroups(Protocol):
    """Finds private groups: VoiceProxy."""

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group."""


class Commands:
    """Sends commands to devices.

    Args:
        site: The site's policy.
        state: Folder that keeps the number of the next command.
        devices: Ids of the devices of the site.
        bars: Ids of barred devices.
    """

    def __init__(
        self,
        site: Site,
        state: Path,
        devices: Container[str],
        bars: Container[str],
        groups: PrivateGroups,
        sender: DeviceSender,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._site, self._devices, self._bars, self._groups = site, devices, bars, groups
        self._sender, self._audit, self._clock = sender, audit, clock
        self._ids = PersistentCounter(state / "command.json", 64, 1)

    def new_id(self) -> int:
        """Return the id of a command that another part of the hub sends.

        Raises:
            OSError: Storage failed.
        """
        return self._ids.allocate()

    def command(
        self, operator: str, device: str, action: str, number: int | None = None, name: str = "", value: str = ""
    ) -> int:
        """Send a command of the schema and return its id.

        Raises:
            UserError: The command or the device does not exist, or the command has a separate method.
        """
        if action not in _ACTIONS:
            raise UserError(f"no command {action!r}; use one of {', '.join(_ACTIONS)}")
        if action == "call" and value == _AMBIENT:
            raise UserError("`call` cannot open a microphone; use listen_in, which requires a reason")
        if action.startswith("live_view"):
            raise UserError("live view is not started by `command`; use live_start and live_stop")
        return self.send(operator, device, action, number, name, value).id

    def listen_in(self, operator: str, device: str, reason: str) -> int:
        """Have a device open its microphone to its private group, and return the command's id.

        Raises:
            UserError: The site does not permit ambient listening, or the reason is empty.
        """
        allowed = self._site.ambient_listening
        self._audit.write(operator, "listen_in", device=device, reason=reason, allowed=allowed)
        if not allowed:
            raise UserError("this site does not permit ambient listening; set `ambient_listening` in the site file")
        if not reason.strip():
            raise UserError("ambient listening requires a reason for the audit log; enter one")
        return self.send(operator, device, "call", self._groups.private_group(device), "", _AMBIENT).id

    def send(self, operator: str, device: str, action: str, number: int | None, name: str, value: str) -> SentCommand:
        """Send any command. The caller has checked that it is permitted.

        Raises:
            UserError: The device does not exist, a text is too long, or the audit log cannot be written.
        """
        if device not in self._devices:
            raise UserError(f"no device {device!r} at this site; add its key to {self._site.keys}")
        if device in self._bars and action not in _OF_BARRED:
            raise UserError(f"{device} is barred; admit it with `patrolink hub unbar` first")
        texts = {"operator": operator.encode()[:_MAX_OPERATOR_BYTES], "name": name.encode(), "value": value.encode()}
        if len(texts["name"]) > _MAX_NAME_BYTES or len(texts["value"]) > _MAX_VALUE_BYTES:
            raise UserError(
                f"name or value is too long; use at most {_MAX_NAME_BYTES} and {_MAX_VALUE_BYTES} bytes in UTF-8"
            )
        command_id, expires_ms = self.new_id(), self._clock.unix_ms() + TIMER_COMMAND_EXPIRY_MS
        record = self._audit.defer if action in _ENDING_ACTIONS else self._audit.write
        record(operator, "command", device=device, command=command_id, action=action, number=number, value=value)
        fields = {"command_id": command_id, "action": _ACTIONS[action], "expires_ms": expires_ms, "number": number}
        self._sender.send(device, COMMAND, {**fields, **texts})
        return SentCommand(command_id, expires_ms)
