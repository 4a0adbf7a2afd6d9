"""Devices and talk groups as a hub has them: seats, SSRCs, keys, and the terms that a device is told (`ptt_group`).

Kept in `groups.json`: for each group its SSRC, key, and who had which seat, so that after a restart a device finds
what it knows, and who was taken out of the site file in the meantime is told, and hears no more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink_names import BITS, NAMES
from patrolink_protocol import srtp

from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import STANDING_MAX, HubContext, MemberConfig
from patrolink.hub.infra import crypto, persistence
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorEvent, FloorRules, Member

if TYPE_CHECKING:
    from patrolink.hub.dispatch.session import DispatcherSession

Address = tuple[Any, ...]  # of a socket
Send = Callable[["Device", bytes], None]

KEY_OVERLAP_MS = 10_000  # the key before is good for so long (PTT.md)
_MOST_GONE = 8  # groups that a device has left, and is told of
_BURSTS = 1 << 27
_RENEW_AHEAD = 1 << 16
_RIGHTS = {name: 1 << i for i, name in enumerate(BITS["ptt_group", "rights"])}
_KINDS = {name: code for code, name in NAMES["ptt_group", "kind"].items()}
_CODECS = {name: code for code, name in NAMES["ptt_group", "codec"].items()}
_PRIVATE = 1 << 31
_DYNAMIC = STANDING_MAX + 1


@dataclass(eq=False)
class Device:
    """A device of the site, and where it is: the addresses of its floor and media sockets, None until it was heard."""

    name: str
    user: bytes
    key: DeviceKey
    index: int  # SRTCP index of the next packet to it
    floor: Address | None = None
    media: Address | None = None
    heard_ms: int | None = None
    seats: dict[int, "Seat"] = field(default_factory=dict)  # by group

    @cached_property
    def up(self) -> srtp.SrtcpTransform:
        """What comes from it."""
        return crypto.rtcp(self.key, b"patrolink-ptt-up")

    @cached_property
    def down(self) -> srtp.SrtcpTransform:
        """What goes to it."""
        return crypto.rtcp(self.key, b"patrolink-ptt-down")

    def rekey(self, epoch: int) -> None:
        """It has begun another key epoch."""
        self.key = self.key._replace(epoch=epoch)
        self.__dict__.pop("up", None)
        self.__dict__.pop("down", None)


@dataclass(eq=False)
class Seat:
    """A device's place in a group."""

    device: Device
    group: "Group"
    member: Member


class Group:
    """One talk group: floor, key, who has a seat, and where its voice goes.

    key, before  the key in force; the one before with the time until which it is good
    targets      devices' media addresses, in the order of who came
    desks        dispatchers that listen
    """

    def __init__(self, number: int, name: str, kind: str, codec: str, rank: int, floor: Floor, key: GroupKey) -> None:
        self.number, self.name, self.kind, self.codec, self.rank = number, name, kind, codec, rank
        self.floor = floor
        self.seats: dict[str, Seat] = {}
        self.inside: dict[int, Callable[[Member, bytes], None]] = {}  # by SSRC: members in this process
        self.desks: list[DispatcherSession] = []
        self.targets: list[Address] = []
        self.before: tuple[srtp.SrtpTransform, GroupKey, int] | None = None
        self.timer: Any = None  # asyncio's handle of the floor's next timer
        self.telling = False  # desks will be told of the floor
        self.set_key(key)

    def set_key(self, key: GroupKey) -> None:
        """Have this key in force."""
        self.key = key
        self.rtp = key.rtp()

    def renew_key(self, now_ms: int) -> None:
        """Make a new key: somebody has left, who has the old one."""
        self.before = (self.rtp, self.key, now_ms + KEY_OVERLAP_MS)
        self.set_key(self.key.following())

    def changed(self) -> None:
        """Somebody has come, gone, or moved."""
        self.targets = [
            seat.device.media for seat in self.seats.values() if seat.member.present and seat.device.media is not None
        ]

    def status(self) -> dict[str, Any]:
        """Return the group as consoles see it."""
        kind = "standing" if self.kind == "group" else self.kind
        it = {"group": self.number, "name": self.name, "kind": kind, "codec": self.codec, "rank": self.rank}
        return {**it, **self.floor.status(), "members": list(self.seats), "desks": len(self.desks)}


class GroupRegistry:
    """All groups and devices of one hub.

    send   hands a plain floor datagram to a device
    tell   is told what happens on a group's floor
    told   is called for a device and a group whose terms have to be told to it (rights 0: it has left)
    """

    def __init__(
        self, place: HubContext, send: Send, tell: Callable[[Group, FloorEvent], None], now: Callable[[], int]
    ) -> None:
        self._place, self._send, self._tell, self._now = place, send, tell, now
        folder = place.state
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path: Path = folder / "groups.json"
        self._shard = place.hub.shard
        self._ssrc = persistence.PersistentCounter(folder / "ssrc.json", 256, 1)
        self._burst = persistence.PersistentCounter(folder / "burst.json", 4096, 1)
        self._renewed = False
        self.indices = persistence.HighWaterMark(folder / "srtcp.json", 16_384)
        self.devices = {
            name: Device(name, f"sip:{name}@{place.site.name}".encode(), key, self.indices.first)
            for name, key in place.keys.items()
        }
        self.groups: dict[int, Group] = {}
        self.seats: dict[int, Seat] = {}  # by the device's SSRC
        self.gone: dict[str, list[int]] = {}  # device → groups that it has left
        self._dynamic: dict[int, dict[str, Any]] = {}
        self._private: dict[str, int] = {}
        self.on_terms: Callable[[Device, int], None] = lambda device, group: None
        self._load()

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        kept = persistence.load_json(self._path) or {"groups": {}, "dynamic": {}, "private": {}, "gone": {}}
        groups: dict[str, Any] = kept["groups"]
        for device, numbers in kept["gone"].items():
            self.gone[device] = [number for number in numbers if not self._belongs(device, number)]
        self._private = kept["private"]
        self._dynamic = {int(number): it for number, it in kept["dynamic"].items()}
        for terms in self._place.site.group:
            if terms.shard == self._shard:
                it = self._build(groups, terms.id, terms.name, "group", terms.codec, terms.rank, terms.rules())
                self._seat_all(it, groups, terms.member)
        for number, made in self._dynamic.items():
            self._build_dynamic(groups, number, made)
        if self._place.is_home:
            for device in self.devices:
                self._build_private(groups, device)
        for text, was in groups.items():
            if int(text) not in self.groups:
                for device in was["seats"]:
                    self._left(device, int(text))
        self.save()

    def save(self) -> None:
        """Keep what has changed, before anybody is told."""
        groups = {
            str(group.number): {
                "ssrc": group.floor.hub_ssrc,
                "key": group.key.number,
                "secret": group.key.secret.hex(),
                "seats": {name: seat.member.ssrc for name, seat in group.seats.items()},
            }
            for group in self.groups.values()
        }
        document = {"groups": groups, "dynamic": self._dynamic, "private": self._private, "gone": self.gone}
        persistence.save_json(self._path, document)

    def _build(
        self, kept: dict[str, Any], number: int, name: str, kind: str, codec: str, rank: int, rules: FloorRules
    ) -> Group:
        was = kept.get(str(number))
        key = GroupKey(was["key"], bytes.fromhex(was["secret"])) if was else GroupKey(0, b"").following()
        ssrc = was["ssrc"] if was else self._new_ssrc()
        floor = Floor(
            rules, ssrc, self._new_burst, lambda member, data: self._out(it, member, data), lambda event: None
        )
        it = self.groups[number] = Group(number, name, kind, codec, rank, floor, key)
        floor.tell = lambda event: self._tell(it, event)
        return it

    def _build_dynamic(self, kept: dict[str, Any], number: int, made: dict[str, Any]) -> Group:
        it = self._build(kept, number, made["name"], "dynamic", "pcma", made["rank"], FloorRules())
        devices = [device for device in made["devices"] if device in self.devices]
        if devices:
            self._seat_all(
                it, kept, [MemberConfig(devices=devices, priority=made["priority"], rights=["talk", "emergency"])]
            )
        return it

    def _build_private(self, kept: dict[str, Any], device: str) -> None:
        number = self._private.setdefault(device, max(self._private.values(), default=_PRIVATE) + 1)
        rules = FloorRules(deny_alone=False)  # what is said is recorded, and whoever comes hears it
        it = self._build(kept, number, device, "private", "pcma", 0, rules)
        priority = self._place.site.private_priority
        self._seat_all(it, kept, [MemberConfig(devices=[device], priority=priority, rights=["talk", "emergency"])])

    def _seat_all(self, it: Group, kept: dict[str, Any], members: list[MemberConfig]) -> None:
        """Give each device its seat, the one that it had; who had one and has none now has left."""
        had: dict[str, int] = kept.get(str(it.number), {}).get("seats", {})
        for terms in members:
            for name in terms.devices:
                device = self.devices[name]
                ssrc = had.get(name) or self._new_ssrc()
                member = Member(name, ssrc, terms.priority, frozenset(terms.rights), device.user)
                seat = Seat(device, it, member)
                it.seats[name] = device.seats[it.number] = self.seats[ssrc] = seat
                it.floor.join(member, self._now())
                if it.number in self.gone.get(name, []):
                    self.gone[name].remove(it.number)
        left = [name for name in had if name not in it.seats]
        for name in left:
            self._left(name, it.number)
        if left:
            it.renew_key(self._now())

    def _belongs(self, device: str, group: int) -> bool:
        """True when the site has it in a standing group, be it at another hub: that one tells it so."""
        groups = (it for it in self._place.site.group if it.id == group)
        return any(device in members.devices for it in groups for members in it.member)

    def _left(self, device: str, group: int) -> None:
        if device in self.devices and not self._belongs(device, group):
            self.gone[device] = [*self.gone.get(device, []), group][-_MOST_GONE:]

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _new_ssrc(self) -> int:
        return 1 << 31 | self._shard << 27 | self._ssrc.take()

    def _new_burst(self) -> int:
        number = self._burst.take()
        if number >= _BURSTS - _RENEW_AHEAD and not self._renewed:
            # Soon they begin anew, and must meet keys that have not seen them.
            self._renewed = True
            for group in self.groups.values():
                group.renew_key(self._now())
            self.save()
            self.tell_all()
        if number == _BURSTS - 1:
            self._burst.restart(1)
            self._renewed = False
        return self._shard << 27 | number

    # --- changes ------------------------------------------------------------------------------------------------------

    def make_group(self, name: str, devices: list[str]) -> int:
        """Make a dynamic group and return its number; UserError names a device that is not known."""
        for device in devices:
            if device not in self.devices:
                raise UserError(f"no device {device!r} at this site; its key has to be in {self._place.site.keys}")
        if not devices or not 0 < len(name.encode()) <= 40:
            raise UserError("a group has a name of 1 to 40 bytes and at least one device")
        number = _DYNAMIC | self._shard << 26 | self._new_ssrc() & 0x3FFFFFF  # once used, never again
        made = {"name": name, "devices": sorted(set(devices)), "priority": 10, "rank": 1}
        self._dynamic[number] = made
        it = self._build_dynamic({}, number, made)
        self.save()
        for seat in it.seats.values():
            self.on_terms(seat.device, number)
        return number

    def end_group(self, number: int) -> Group:
        """End a dynamic group and return it; UserError when it is none."""
        if number not in self._dynamic:
            raise UserError(f"group {number} was not made by a dispatcher; standing groups are in the site file")
        del self._dynamic[number]
        it = self.groups.pop(number)
        now = self._now()
        for name, seat in it.seats.items():
            it.floor.leave(seat.member, now)
            del self.seats[seat.member.ssrc], seat.device.seats[number]
            self._left(name, number)
        self.save()
        for seat in it.seats.values():
            self.on_terms(seat.device, number)
        return it

    def private(self, device: str) -> int:
        """Return the number of a device's private group; UserError when there is none here."""
        number = self._private.get(device)
        if number not in self.groups:
            raise UserError(
                f"no private group of {device!r} at this hub; those of the site are at shard {self._place.site.home()}"
            )
        return number

    def tell_all(self) -> None:
        """Keys have changed: tell everybody."""
        for seat in self.seats.values():
            self.on_terms(seat.device, seat.group.number)

    def take_seat(self, group: Group, name: str, priority: int, receive: Callable[[Member, bytes], None]) -> Member:
        """Return a member that is in this process: a dispatcher's desk."""
        rights = frozenset(("talk", "emergency", "broadcast"))
        member = Member(name, self._new_ssrc(), priority, rights, f"sip:{name}@{self._place.site.name}".encode())
        group.inside[member.ssrc] = receive
        group.floor.join(member, self._now())
        return member

    def give_up_seat(self, group: Group, member: Member) -> None:
        """The desk goes."""
        group.floor.leave(member, self._now())
        del group.inside[member.ssrc]

    def _out(self, group: Group, member: Member, data: bytes) -> None:
        receive = group.inside.get(member.ssrc)
        if receive is not None:
            receive(member, data)
        else:
            self._send(group.seats[member.name].device, data)

    # --- terms --------------------------------------------------------------------------------------------------------

    def terms(self, device: Device) -> list[dict[str, Any]]:
        """Return the `ptt_group` messages that say all of a device's groups here, and which ones it has left."""
        return [self.term(device, number) for number in [*self.gone.get(device.name, []), *device.seats]]

    def term(self, device: Device, number: int) -> dict[str, Any]:
        """Return the `ptt_group` of one group: without rights when the device has no seat there."""
        hub = self._place.hub
        where = {"floor_port": hub.floor_port, "media_port": hub.media_port, "host": hub.host.encode()}
        seat = device.seats.get(number)
        if seat is None:
            nothing = {"kind": 0, "rights": 0, "priority": 0, "rank": 0, "codec": 0, "hub_ssrc": 0, "key": 0}
            return {"group": number, **nothing, "ssrc": 1 << 31, "wrapped": b"", "name": b"", **where}
        group, member = seat.group, seat.member
        return {
            "group": number,
            "kind": _KINDS[group.kind],
            "rights": _RIGHTS["listen"] | sum(_RIGHTS[right] for right in member.rights),
            "priority": member.priority,
            "rank": group.rank,
            "codec": _CODECS[group.codec],
            "ssrc": member.ssrc,
            "hub_ssrc": group.floor.hub_ssrc,
            "key": group.key.number,
            "wrapped": group.key.wrapped(device.key),
            "name": group.name.encode(),
            **where,
        }
