"""A site: its talk groups, hubs and dispatchers, in a checked site.toml (`patrolink hub --example` shows one)."""

import hashlib
import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from patrolink.core import keys
from patrolink.core.boards import describe_errors
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.evidence import evidence_key
from patrolink.hub.voice.floor_types import FloorRules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).with_name("site.toml")
SHARDS = 16  # 4 bits of an SSRC
STANDING_MAX = (1 << 30) - 1  # numbers of groups in the file; above are dynamic and private ones

Right = Literal["talk", "emergency", "broadcast"]


def _fits(most: int) -> AfterValidator:
    """A text of at most so many bytes: what a frame has room for."""

    def check(value: str) -> str:
        if not 0 < len(value.encode()) <= most:
            raise ValueError(f"has {len(value.encode())} bytes in UTF-8; write 1 to {most}")
        return value

    return AfterValidator(check)


def _once(what: str, values: list[str]) -> None:
    for value, n in Counter(values).items():
        if n > 1:
            raise ValueError(f"{what} {value} is there {n} times; leave one")


Name = Annotated[str, _fits(40)]
Host = Annotated[str, _fits(64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HubConfig(_Strict):
    """One hub of the site: where it listens and what devices are told."""

    shard: int = Field(default=0, ge=0, lt=SHARDS)
    host: Host
    listen: str = "0.0.0.0"  # noqa: S104 - devices come from anywhere
    floor_port: int = Field(gt=0, lt=65536)
    media_port: int = Field(gt=0, lt=65536)
    console: str = Field(default="", pattern=r"^(|.+:[0-9]{1,5})$")  # host:port of the console's page; empty: none
    console_certificate: str = ""  # PEM, with its chain; needed unless console and uploads are on loopback
    console_key: str = ""
    uploads: str = Field(default="", pattern=r"^(|.+:[0-9]{1,5})$")  # host:port that takes devices' clips; empty: none
    live_port: int = Field(default=0, ge=0, lt=65536)  # UDP, takes live view; 0: none

    @model_validator(mode="after")
    def _ports(self) -> "HubConfig":
        if len({self.floor_port, self.media_port, self.live_port}) < 3:
            raise ValueError("of floor_port, media_port and live_port two are the same; use three ports")
        if bool(self.console_certificate) != bool(self.console_key):
            raise ValueError("console_certificate and console_key belong together; name both, or neither")
        return self


class MemberConfig(_Strict):
    """Devices that belong to a group on the same terms; all may listen."""

    devices: list[str] = Field(min_length=1)
    priority: int = Field(default=0, ge=0, le=255)
    rights: list[Right] = ["talk"]


class GroupConfig(_Strict):
    """A standing talk group."""

    id: int = Field(ge=1, le=STANDING_MAX)
    name: Name
    shard: int = Field(default=0, ge=0, lt=SHARDS)
    codec: Literal["pcma", "opus"] = "pcma"
    rank: int = Field(default=0, ge=0, le=255)
    talk_s: int = Field(default=30, ge=1, le=600)
    emergency_s: int = Field(default=120, ge=1, le=3600)
    queue: int = Field(default=16, ge=0, le=100)
    preempt: bool = True
    member: list[MemberConfig] = []

    def rules(self) -> FloorRules:
        """Return its floor's rules."""
        return FloorRules(self.talk_s * 1000, self.emergency_s * 1000, self.queue, self.preempt)


class Dispatcher(_Strict):
    """Who may use the console. The token itself stands nowhere."""

    name: Name
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    priority: int = Field(default=200, ge=0, le=255)


class Site(_Strict):
    """A site.toml. Paths are relative to its folder."""

    name: str = Field(pattern=r"^[a-z0-9.-]{1,60}$")
    keys: str
    broker: str
    state: str = "state"
    recordings: str = "recordings"
    clips: str = "clips"
    clips_gb: int = Field(default=64, ge=1, le=1_000_000)  # of each device at most; more is not taken
    evidence_key: str = ""  # PEM; without it the hub shows no pictures
    retention_days: int = Field(default=30, ge=1, le=36_500)
    ambient_listening: bool = False  # a dispatcher may open a device's microphone
    private_priority: int = Field(default=10, ge=0, le=255)
    hub: list[HubConfig] = Field(min_length=1)
    group: list[GroupConfig] = []
    dispatcher: list[Dispatcher] = []

    @model_validator(mode="after")
    def _agree(self) -> "Site":
        _once("hub.shard", [str(hub.shard) for hub in self.hub])
        _once("group.id", [str(group.id) for group in self.group])
        _once("dispatcher.name", [one.name for one in self.dispatcher])
        if sum(bool(hub.uploads) for hub in self.hub) > 1:
            raise ValueError("more than one [[hub]] has uploads; clips go to one hub, leave it out of the others")
        shards = {hub.shard for hub in self.hub}
        for group in self.group:
            if group.shard not in shards:
                raise ValueError(
                    f"group {group.id} is on shard {group.shard}, which no [[hub]] has; add one or move it"
                )
            _once(f"a device of group {group.id}:", [device for members in group.member for device in members.devices])
        return self

    def place(self, shard: int | None) -> HubConfig:
        """Return the hub of a shard, the only one when None; UserError when there is none, or more than one."""
        if shard is None and len(self.hub) == 1:
            return self.hub[0]
        found = next((hub for hub in self.hub if hub.shard == shard), None)
        if found is None:
            known = ", ".join(str(hub.shard) for hub in self.hub)
            raise UserError(f"which hub is this? The site has shards {known}; name one of them with --shard")
        return found

    def home(self) -> int:
        """Return the shard that talks to the devices through the broker, and has the private groups: the lowest."""
        return min(hub.shard for hub in self.hub)


class HubContext:
    """A site as one hub has it: the checked file, paths, keys."""

    def __init__(self, path: Path, shard: int | None = None) -> None:
        self.site = load(path)
        self.hub = self.site.place(shard)
        base = path.resolve().parent
        self.keys: dict[str, DeviceKey] = keys.load(base / self.site.keys)
        self.state = base / self.site.state / f"shard-{self.hub.shard}"
        self.recordings = base / self.site.recordings
        self.clips = base / self.site.clips
        self.evidence = evidence_key.load(base / self.site.evidence_key) if self.site.evidence_key else None
        self.console_tls: tuple[Path, Path] | None = None
        if self.hub.console_certificate:
            self.console_tls = base / self.hub.console_certificate, base / self.hub.console_key
        for group in self.site.group:
            for members in group.member:
                for device in members.devices:
                    if device not in self.keys:
                        raise UserError(
                            f"{path}: group.{group.id}.member: device {device!r} has no key in {self.site.keys}; "
                            "add its key, or take it out of the group"
                        )

    @property
    def is_home(self) -> bool:
        """True when this hub is the one that talks to the devices through the broker."""
        return self.hub.shard == self.site.home()


def load(path: Path) -> Site:
    """Return the checked site.toml at `path`; UserError names each key that is wrong, why, and what to do."""
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; `patrolink hub --example` prints a site file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not TOML: {e}") from None
    try:
        return Site.model_validate(raw)
    except ValidationError as e:
        models = (Site, HubConfig, GroupConfig, MemberConfig, Dispatcher)
        known = [name for model in models for name in model.model_fields]
        raise UserError(describe_errors(path, e, known, "patrolink hub --example").replace(": : ", ": ")) from None


def token_hash(token: str) -> str:
    """Return what the site file says of a token. It is 256 random bits, so that a plain hash tells nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Make a dispatcher's token."""
    return secrets.token_urlsafe(32)
