"""The site file (site.toml): hubs, talk groups and dispatchers. `patrolink hub --example` prints one."""

import hashlib
import secrets
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from patrolink.core import keys, settings_file
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.evidence import evidence_key
from patrolink.hub.infra import bar_file
from patrolink.hub.updates import campaign_file
from patrolink.hub.voice.floor_types import FloorRules

EXAMPLE = Path(__file__).with_name("site.toml")
SHARDS = 16  # 4 bits of an SSRC
STANDING_MAX = (1 << 30) - 1  # highest group number in a site file
DYNAMIC_FIRST = STANDING_MAX + 1  # dynamic groups; their number holds the shard of their hub
DYNAMIC_SHARD_SHIFT = 26
PRIVATE_FIRST = 1 << 31  # private groups

Right = Literal["talk", "emergency", "broadcast"]


def _max_bytes(limit: int) -> AfterValidator:
    """Return a validator for a text that has to fit into a frame: 1 to `limit` bytes in UTF-8."""

    def check(value: str) -> str:
        if not 0 < len(value.encode()) <= limit:
            raise ValueError(f"has {len(value.encode())} bytes in UTF-8; write 1 to {limit}")
        return value

    return AfterValidator(check)


def _check_unique(name: str, values: list[str]) -> None:
    for value, n in Counter(values).items():
        if n > 1:
            raise ValueError(f"{name} {value} occurs {n} times; remove the duplicates")


Name = Annotated[str, _max_bytes(40)]
Host = Annotated[str, _max_bytes(64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HubConfig(_Strict):
    """One hub of the site: the addresses it listens on, and the host that devices connect to."""

    shard: int = Field(default=0, ge=0, lt=SHARDS)
    host: Host
    listen: str = "0.0.0.0"  # noqa: S104 - devices connect from any network
    floor_port: int = Field(gt=0, lt=65536)
    media_port: int = Field(gt=0, lt=65536)
    console: str = Field(default="", pattern=r"^(|.+:[0-9]{1,5})$")  # host:port of the console; empty: no console
    console_certificate: str = ""  # PEM with the chain; required unless console and uploads are on loopback
    console_key: str = ""
    uploads: str = Field(default="", pattern=r"^(|.+:[0-9]{1,5})$")  # host:port for clip uploads; empty: none
    live_port: int = Field(default=0, ge=0, lt=65536)  # UDP port for live view; 0: none

    @model_validator(mode="after")
    def _ports(self) -> "HubConfig":
        if len({self.floor_port, self.media_port, self.live_port}) < 3:
            raise ValueError("floor_port, media_port and live_port must differ; use three ports")
        if bool(self.console_certificate) != bool(self.console_key):
            raise ValueError("console_certificate and console_key belong together; set both or none")
        return self


class MemberConfig(_Strict):
    """Members of a group that share priority and rights. All members may listen."""

    devices: list[str] = Field(min_length=1)
    priority: int = Field(default=0, ge=0, le=255)
    rights: list[Right] = ["talk"]


class GroupConfig(_Strict):
    """A talk group of the site file."""

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

    def floor_rules(self) -> FloorRules:
        """Return the rules of the group's floor."""
        return FloorRules(self.talk_s * 1000, self.emergency_s * 1000, self.queue, self.preempt)


class Dispatcher(_Strict):
    """A dispatcher who may use the console. Only a hash of the token is stored."""

    name: Name
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    priority: int = Field(default=200, ge=0, le=255)


class ProvisionConfig(_Strict):
    """What `patrolink provision` needs to know of a site, beside its devices. Paths are relative to the site file."""

    secret: str = "site.secret"  # noqa: S105 - a file, which device keys are derived from
    members: str = "members.toml"  # written by `patrolink provision`, read by the hub
    broker_host: Host
    broker_port: int = Field(gt=0, lt=65536)
    broker_ca: str = ""  # PEM; empty: devices connect without TLS
    consent: Annotated[str, _max_bytes(40)]
    priority: int = Field(default=10, ge=0, le=255)
    rights: list[Right] = ["talk", "emergency"]
    config: dict[str, Any] = {}
    board: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _no_identity(self) -> "ProvisionConfig":
        tables = {"config": self.config, **{f"board.{name}": table for name, table in self.board.items()}}
        for name, table in tables.items():
            if fixed := sorted(table.keys() & {"board", "device", "key", "key_epoch"}):
                raise ValueError(f"{name}: {', '.join(fixed)} differs per device and is set by provisioning; remove it")
        return self


class MemberFileEntry(MemberConfig):
    """An entry of the file of members: devices of one group."""

    group: int = Field(ge=1, le=STANDING_MAX)


class MemberFile(_Strict):
    """The file of members that `patrolink provision` writes."""

    member: list[MemberFileEntry] = []


class Site(_Strict):
    """A site file. Paths are relative to its folder."""

    name: str = Field(pattern=r"^[a-z0-9.-]{1,60}$")
    keys: str
    broker: str
    state: str = "state"
    recordings: str = "recordings"
    clips: str = "clips"
    clips_gb: int = Field(default=64, ge=1, le=1_000_000)  # limit per device; more is refused
    release_keys: str = ""  # PEM of the public keys that sign images; without it there are no updates over the air
    evidence_key: str = ""  # PEM; without it the hub cannot show pictures
    retention_days: int = Field(default=30, ge=1, le=36_500)
    ambient_listening: bool = False  # permits dispatchers to open a device's microphone
    private_priority: int = Field(default=10, ge=0, le=255)
    hub: list[HubConfig] = Field(min_length=1)
    group: list[GroupConfig] = []
    dispatcher: list[Dispatcher] = []
    provision: ProvisionConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Site":
        _check_unique("hub.shard", [str(hub.shard) for hub in self.hub])
        _check_unique("group.id", [str(group.id) for group in self.group])
        _check_unique("dispatcher.name", [dispatcher.name for dispatcher in self.dispatcher])
        if sum(bool(hub.uploads) for hub in self.hub) > 1:
            raise ValueError("more than one [[hub]] has uploads; clips go to one hub, remove uploads from the others")
        shards = {hub.shard for hub in self.hub}
        for group in self.group:
            if group.shard not in shards:
                raise ValueError(
                    f"group {group.id} is on shard {group.shard}, which no [[hub]] has; add that hub or move the group"
                )
            _check_unique(
                f"a device of group {group.id}:", [device for members in group.member for device in members.devices]
            )
        return self

    def find_hub(self, shard: int | None) -> HubConfig:
        """Return the hub of a shard; None selects the only hub of a site.

        Raises:
            UserError: No hub has the shard, or the shard is None and the site has several hubs.
        """
        if shard is None and len(self.hub) == 1:
            return self.hub[0]
        hub = next((hub for hub in self.hub if hub.shard == shard), None)
        if hub is None:
            known = ", ".join(str(hub.shard) for hub in self.hub)
            wrong = "the site has several hubs" if shard is None else f"the site has no hub of shard {shard}"
            raise UserError(f"{wrong}; select one of the shards {known} with --shard")
        return hub

    def shard_of(self, number: int) -> int:
        """Return the shard of the hub that decides on a group, which may have ended: without another, the home hub."""
        if number <= STANDING_MAX:
            return next((group.shard for group in self.group if group.id == number), self.home_shard())
        shard = number >> DYNAMIC_SHARD_SHIFT & SHARDS - 1
        is_dynamic = number < PRIVATE_FIRST and any(hub.shard == shard for hub in self.hub)
        return shard if is_dynamic else self.home_shard()

    def home_shard(self) -> int:
        """Return the lowest shard. Its hub sends messages to devices and has the private groups."""
        return min(hub.shard for hub in self.hub)


class HubContext:
    """What one hub needs to know of its site: the validated file, resolved paths, and keys.

    Args:
        path: The site file.
        shard: Shard of this hub; None: the only hub of the site.

    Attributes:
        site: The site file.
        hub: This hub's table of the site file.
        keys: Device keys by device id.
        state: Folder of the hub's state.
        bars: File of barred devices, common to the hubs of the site.
        campaigns: File of update campaigns.
        images: Folder of their images.
        release_keys: File of the keys that sign images; None if the site has none.
        evidence: Key that decrypts clips; None if the site has none.
        console_tls: Certificate chain and key; None if the console is served without TLS.

    Raises:
        UserError: The site file is invalid, or a device has no key.
    """

    def __init__(self, path: Path, shard: int | None = None) -> None:
        self.site = load(path)
        self.hub = self.site.find_hub(shard)
        base = path.resolve().parent
        self.keys: dict[str, DeviceKey] = keys.load(base / self.site.keys)
        self.state = base / self.site.state / f"shard-{self.hub.shard}"
        self.bars = base / self.site.state / bar_file.FILE
        self.campaigns = base / self.site.state / campaign_file.FILE
        self.images = base / self.site.state / campaign_file.IMAGE_FOLDER
        self.release_keys = base / self.site.release_keys if self.site.release_keys else None
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
                            "add its key, or remove it from the group"
                        )

    @property
    def is_home(self) -> bool:
        """True for the hub that sends messages to devices through the broker."""
        return self.hub.shard == self.site.home_shard()

    def owns_group(self, number: int) -> bool:
        """Return True for the number of a group that this hub decides on."""
        return self.site.shard_of(number) == self.hub.shard


def load(path: Path) -> Site:
    """Read and validate a site file, and add the members of groups that `patrolink provision` has written.

    Raises:
        UserError: A file cannot be read or is invalid. The message names each invalid key, the cause, and the remedy.
    """
    site = load_site_file(path)
    members = path.resolve().parent / site.provision.members if site.provision else None
    if members is None or not members.exists():
        return site
    remedy = "write it again with `patrolink provision`"
    added: dict[int, list[MemberConfig]] = {}
    for entry in load_members(members).member:
        added.setdefault(entry.group, []).append(entry)
    unknown = sorted(added.keys() - {group.id for group in site.group})
    if unknown:
        raise UserError(f"{members}: group {unknown[0]} is not in {path}; {remedy}")
    groups = [group.model_copy(update={"member": _added(group, added.get(group.id, []))}) for group in site.group]
    try:
        return Site.model_validate({name: getattr(site, name) for name in Site.model_fields} | {"group": groups})
    except ValidationError as e:
        raise UserError(settings_file.describe_errors(members, e, [], remedy) + f"; {remedy}") from None


def _added(group: GroupConfig, entries: list[MemberConfig]) -> list[MemberConfig]:
    """Return the members of a group with those of further entries that it does not have itself."""
    own = {device for members in group.member for device in members.devices}
    result = list(group.member)
    for entry in entries:
        if devices := [device for device in entry.devices if device not in own]:
            result.append(entry.model_copy(update={"devices": devices}))
    return result


def load_members(path: Path) -> MemberFile:
    """Read and validate a file of members. Raises UserError."""
    remedy = "remove it, and write it again with `patrolink provision`"
    return settings_file.load(path, MemberFile, list(MemberFileEntry.model_fields), remedy, remedy)


def load_site_file(path: Path) -> Site:
    """Read and validate a site file alone; see `load`."""
    models = (Site, HubConfig, GroupConfig, MemberConfig, Dispatcher, ProvisionConfig)
    known = [name for model in models for name in model.model_fields]
    example = "`patrolink hub --example`"
    return settings_file.load(path, Site, known, example, f"{example} prints a site file")


def token_hash(token: str) -> str:
    """Return the hash that the site file stores. A token is 256 random bits, so a plain hash is sufficient.

    What is not UTF-8 in a request arrives as surrogates, and is hashed like any wrong token.
    """
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def new_token() -> str:
    """Return a new random token for a dispatcher."""
    return secrets.token_urlsafe(32)
