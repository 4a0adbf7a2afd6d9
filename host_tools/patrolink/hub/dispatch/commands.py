"""Commands of dispatchers to devices: written down before they are sent, and good for half a minute."""

from collections.abc import Callable
from typing import Any, NamedTuple

from patrolink_messages import COMMAND
from patrolink_names import NAMES

from patrolink.core.clock import unix_ms
from patrolink.core.errors import UserError
from patrolink.hub.config import HubContext
from patrolink.hub.infra import persistence
from patrolink.hub.voice.groups import GroupRegistry

_ACTIONS = {name: code for code, name in NAMES["command", "action"].items()}
_COMMAND_MS = 30_000  # a command that comes later is not done
_AMBIENT = "ambient"  # value of the command `call` that opens the microphone


class SentCommand(NamedTuple):
    """A command that was sent."""

    id: int
    expires_ms: int


class Commands:
    """
    send   function(device, kind, values): to a device, through the broker
    audit  function(who, what, **facts), before it is done; UserError when it cannot be
    """

    def __init__(
        self,
        place: HubContext,
        roster: GroupRegistry,
        send: Callable[[str, int, dict[str, Any]], None],
        audit: Callable[..., None],
    ) -> None:
        self._place, self._roster, self._send, self._audit = place, roster, send, audit
        self._numbers = persistence.PersistentCounter(place.state / "command.json", 64, 1)

    def command(
        self, operator: str, device: str, action: str, number: int | None = None, name: str = "", value: str = ""
    ) -> int:
        """Send a command to a device and return its id. UserError for one that does not exist, or may not be."""
        if action not in _ACTIONS:
            raise UserError(f"no command {action!r}; there are {', '.join(_ACTIONS)}")
        if action == "call" and value == _AMBIENT:
            raise UserError("listening in is a command of its own, with a reason")
        if action.startswith("live_view"):
            raise UserError("live view has requests of its own: live_start and live_stop")
        return self.send(operator, device, action, number, name, value).id

    def listen_in(self, operator: str, device: str, reason: str) -> int:
        """Ask a device to open its microphone to its private group. UserError unless the site's policy allows it."""
        allowed = self._place.site.ambient_listening
        self._audit(operator, "listen_in", device=device, reason=reason, allowed=allowed)
        if not allowed:
            raise UserError("this site does not allow listening in; its policy is `ambient_listening` in the site file")
        if not reason.strip():
            raise UserError("listening in needs a reason, for the audit log")
        return self.send(operator, device, "call", self._roster.private(device), "", _AMBIENT).id

    def send(self, operator: str, device: str, action: str, number: int | None, name: str, value: str) -> SentCommand:
        """Send a command whatever it is: who calls this has asked whether it may be."""
        if device not in self._roster.devices:
            raise UserError(f"no device {device!r} at this site; its key has to be in {self._place.site.keys}")
        texts = {"operator": operator.encode()[:40], "name": name.encode(), "value": value.encode()}
        if len(texts["name"]) > 40 or len(texts["value"]) > 120:
            raise UserError("a command's name has at most 40 bytes, its value 120")
        command, expires_ms = self._numbers.take(), unix_ms() + _COMMAND_MS
        facts = {"command_id": command, "action": _ACTIONS[action], "expires_ms": expires_ms}
        self._audit(operator, "command", device=device, command=command, action=action, number=number, value=value)
        self._send(device, COMMAND, {**facts, "number": number, **texts})
        return SentCommand(command, expires_ms)
