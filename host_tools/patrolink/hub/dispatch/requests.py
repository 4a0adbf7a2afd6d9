"""What may be asked of a desk over the console's socket: one model a request, checked before anything is done."""

import json
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patrolink.core.errors import UserError
from patrolink.hub.dispatch.messages import LiveFormat
from patrolink.hub.dispatch.session import DispatcherSession

Group = Annotated[int, Field(ge=1, lt=1 << 32)]
Device = Annotated[str, Field(min_length=1, max_length=64)]


class _Request(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    id: int | None = None

    @abstractmethod
    def perform(self, desk: DispatcherSession) -> Any:
        """Do it and return its result for JSON."""


class _OfGroup(_Request):
    group: Group


class Listen(_OfGroup):
    do: Literal["listen"]

    def perform(self, desk: DispatcherSession) -> None:
        desk.listen(self.group)


class Leave(_OfGroup):
    do: Literal["leave"]

    def perform(self, desk: DispatcherSession) -> None:
        desk.leave(self.group)


class Press(_OfGroup):
    do: Literal["press"]
    priority: Annotated[int, Field(ge=0, le=255)] | None = None
    emergency: bool = False
    broadcast: bool = False

    def perform(self, desk: DispatcherSession) -> None:
        desk.press(self.group, self.priority, self.emergency, self.broadcast)


class Release(_OfGroup):
    do: Literal["release"]

    def perform(self, desk: DispatcherSession) -> None:
        desk.release(self.group)


class MakeGroup(_Request):
    do: Literal["make_group"]
    name: Annotated[str, Field(min_length=1, max_length=40)]
    devices: Annotated[list[Device], Field(min_length=1, max_length=2000)]

    def perform(self, desk: DispatcherSession) -> int:
        return desk.make_group(self.name, self.devices)


class EndGroup(_OfGroup):
    do: Literal["end_group"]

    def perform(self, desk: DispatcherSession) -> None:
        desk.end_group(self.group)


class Private(_Request):
    do: Literal["private"]
    device: Device

    def perform(self, desk: DispatcherSession) -> int:
        return desk.private_group(self.device)


class Command(_Request):
    do: Literal["command"]
    device: Device
    action: str
    number: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    name: str = ""
    value: str = ""

    def perform(self, desk: DispatcherSession) -> int:
        return desk.command(self.device, self.action, self.number, self.name, self.value)


class AnswerEvent(_Request):
    do: Literal["answer_event"]
    device: Device
    event_id: Annotated[int, Field(ge=0, lt=1 << 32)]
    state: str

    def perform(self, desk: DispatcherSession) -> None:
        desk.answer_event(self.device, self.event_id, self.state)


class ListenIn(_Request):
    do: Literal["listen_in"]
    device: Device
    reason: Annotated[str, Field(min_length=3, max_length=200)]

    def perform(self, desk: DispatcherSession) -> int:
        return desk.listen_in(self.device, self.reason)


class LiveStart(_Request):
    do: Literal["live_start"]
    device: Device
    seconds: Annotated[int, Field(ge=1, le=300)] = 60
    form: LiveFormat = "jpeg"

    def perform(self, desk: DispatcherSession) -> int:
        return desk.live_start(self.device, self.seconds, self.form)


class LiveStop(_Request):
    do: Literal["live_stop"]
    device: Device

    def perform(self, desk: DispatcherSession) -> None:
        desk.live_stop(self.device)


class Clips(_Request):
    do: Literal["clips"]
    limit: Annotated[int, Field(ge=1, le=1000)] = 200

    def perform(self, desk: DispatcherSession) -> list[dict[str, Any]] | None:
        return desk.clips(self.limit)


class PreserveClip(_Request):
    do: Literal["preserve_clip"]
    device: Device
    clip: Annotated[int, Field(ge=0, lt=1_000_000)]

    def perform(self, desk: DispatcherSession) -> int:
        return desk.preserve_clip(self.device, self.clip)


class Recordings(_Request):
    do: Literal["recordings"]
    group: Group | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    def perform(self, desk: DispatcherSession) -> list[dict[str, Any]]:
        return desk.recordings(self.group, self.limit)


_ANY: TypeAdapter[_Request] = TypeAdapter(
    Annotated[
        Listen
        | Leave
        | Press
        | Release
        | MakeGroup
        | EndGroup
        | Private
        | Command
        | AnswerEvent
        | ListenIn
        | LiveStart
        | LiveStop
        | Clips
        | PreserveClip
        | Recordings,
        Field(discriminator="do"),
    ]
)


def perform(desk: DispatcherSession, text: str) -> dict[str, Any]:
    """Do what a text asks; return `reply` with its result, or `refused` with the reason."""
    number = None
    try:
        raw = json.loads(text)
        number = raw.get("id") if isinstance(raw, dict) else None
        return {"type": "reply", "id": number, "result": _ANY.validate_python(raw).perform(desk)}
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return {"type": "refused", "id": number, "error": f"{where or 'request'}: {first['msg']}"}
    except (ValueError, RecursionError):
        return {"type": "refused", "id": None, "error": "not JSON"}
    except UserError as e:
        return {"type": "refused", "id": number, "error": str(e)}
    except OSError as e:
        return {"type": "refused", "id": number, "error": f"not done: the hub's storage refuses ({e.strerror})"}
