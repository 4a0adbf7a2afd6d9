"""Requests of the console's socket: one model per request, validated before it is performed.

The fields of a model are the keys of the JSON request; `do` selects the model.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patrolink.core import untrusted_json
from patrolink.core.errors import UserError
from patrolink.hub.dispatch.messages import LiveFormat
from patrolink.hub.dispatch.request_limits import RequestClass
from patrolink.hub.dispatch.session import DispatcherSession

Group = Annotated[int, Field(ge=1, lt=1 << 32)]
Device = Annotated[str, Field(min_length=1, max_length=64)]


class _Request(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    request_class: ClassVar[RequestClass] = "ordinary"
    id: int | None = None

    @abstractmethod
    async def perform(self, session: DispatcherSession) -> Any:
        """Perform the request and return its JSON-ready result."""


class _GroupRequest(_Request):
    group: Group


class Listen(_GroupRequest):
    """Listen to a group."""

    do: Literal["listen"]

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        await session.listen(self.group)


class Leave(_GroupRequest):
    """Stop listening to a group; releases its floor."""

    request_class: ClassVar[RequestClass] = "vital"
    do: Literal["leave"]

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        session.leave(self.group)


class Press(_GroupRequest):
    """Request a group's floor. `granted`, `queued` or `denied` follows as a message."""

    do: Literal["press"]
    priority: Annotated[int, Field(ge=0, le=255)] | None = None
    emergency: bool = False
    broadcast: bool = False

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        await session.request_floor(self.group, self.priority, self.emergency, self.broadcast)


class Release(_GroupRequest):
    """Release a group's floor, or cancel the request."""

    request_class: ClassVar[RequestClass] = "vital"
    do: Literal["release"]

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        session.release_floor(self.group)


class MakeGroup(_Request):
    """Create a dynamic group of devices; the result is its number."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["make_group"]
    name: Annotated[str, Field(min_length=1, max_length=40)]
    devices: Annotated[list[Device], Field(min_length=1, max_length=2000)]

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return await session.make_group(self.name, self.devices)


class EndGroup(_GroupRequest):
    """End a dynamic group."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["end_group"]

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        await session.end_group(self.group)


class Private(_Request):
    """Get the number of the private group of a device; `press` there is a private call."""

    do: Literal["private"]
    device: Device

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return session.private_group(self.device)


class Command(_Request):
    """Send a command of the schema to a device; the result is the command's id."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["command"]
    device: Device
    action: str
    number: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    name: str = ""
    value: str = ""

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return session.command(self.device, self.action, self.number, self.name, self.value)


class AnswerEvent(_Request):
    """Set the state of an event: accepted, resolved and others of `event_state`."""

    request_class: ClassVar[RequestClass] = "vital"
    do: Literal["answer_event"]
    device: Device
    event_id: Annotated[int, Field(ge=0, lt=1 << 32)]
    state: str

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        session.answer_event(self.device, self.event_id, self.state)


class ListenIn(_Request):
    """Open the microphone of a device (ambient listening); the result is the command's id."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["listen_in"]
    device: Device
    reason: Annotated[str, Field(min_length=3, max_length=200)]

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return await session.listen_in(self.device, self.reason)


class LiveStart(_Request):
    """Watch the camera of a device; the result is the view's id."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["live_start"]
    device: Device
    seconds: Annotated[int, Field(ge=1, le=300)] = 60
    form: LiveFormat = "jpeg"

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return session.live_start(self.device, self.seconds, self.form)


class LiveStop(_Request):
    """Stop watching the camera of a device."""

    request_class: ClassVar[RequestClass] = "vital"
    do: Literal["live_stop"]
    device: Device

    async def perform(self, session: DispatcherSession) -> None:
        """Perform the request; see the class."""
        session.live_stop(self.device)


class Clips(_Request):
    """List clips, newest first."""

    do: Literal["clips"]
    limit: Annotated[int, Field(ge=1, le=1000)] = 200

    async def perform(self, session: DispatcherSession) -> list[dict[str, Any]] | None:
        """Perform the request; see the class."""
        return session.clips(self.limit)


class PreserveClip(_Request):
    """Preserve a clip at the hub and on its device; the result is the command's id."""

    request_class: ClassVar[RequestClass] = "command"
    do: Literal["preserve_clip"]
    device: Device
    clip: Annotated[int, Field(ge=0, lt=1_000_000)]

    async def perform(self, session: DispatcherSession) -> int:
        """Perform the request; see the class."""
        return session.preserve_clip(self.device, self.clip)


class Recordings(_Request):
    """List recorded bursts, newest first."""

    do: Literal["recordings"]
    group: Group | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    async def perform(self, session: DispatcherSession) -> list[dict[str, Any]]:
        """Perform the request; see the class."""
        return session.recordings(self.group, self.limit)


class Updates(_Request):
    """List update campaigns, newest first."""

    do: Literal["updates"]

    async def perform(self, session: DispatcherSession) -> list[dict[str, Any]] | None:
        """Perform the request; see the class."""
        return session.updates()


_REQUESTS: TypeAdapter[_Request] = TypeAdapter(
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
        | Recordings
        | Updates,
        Field(discriminator="do"),
    ]
)


async def perform(session: DispatcherSession, text: str) -> dict[str, Any]:
    """Perform a request.

    Args:
        session: The dispatcher session.
        text: The JSON request.

    Returns:
        A `reply` with the result, or `refused` with the reason.
    """
    try:
        raw = untrusted_json.parse(text)
    except ValueError as e:
        return {"type": "refused", "id": None, "error": f"not JSON: {e}"}
    request_id = raw.get("id") if isinstance(raw, dict) and type(raw.get("id")) is int else None
    try:
        request = _REQUESTS.validate_python(raw)
        session.limits.charge(request.request_class)
        return {"type": "reply", "id": request_id, "result": await request.perform(session)}
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return {"type": "refused", "id": request_id, "error": f"{field or 'request'}: {first['msg']}"}
    except ValueError as e:  # a value that no message can hold
        return {"type": "refused", "id": request_id, "error": f"the hub cannot send this: {e}"}
    except UserError as e:
        return {"type": "refused", "id": request_id, "error": str(e)}
    except OSError as e:
        return {"type": "refused", "id": request_id, "error": f"the hub's storage failed: {e.strerror}; check its log"}
