"""Groups, memberships, SSRCs and group keys of a hub, kept in `groups.json` across restarts.

The file holds each group's SSRC and key and the members' SSRCs. After a restart the terms that devices know remain
valid. A device that was removed from a group in the site file is informed, and the group gets a new key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import DYNAMIC_FIRST, DYNAMIC_SHARD_SHIFT, PRIVATE_FIRST, HubContext, MemberConfig
from patrolink.hub.infra import persistence
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.threads import run_to_end
from patrolink.hub.voice import group_file, site_members
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorRules, Member
from patrolink.hub.voice.groups import Device, Group, Membership
from patrolink.hub.voice.ssrc_allocator import SsrcAllocator

_DYNAMIC_PRIORITY, _DYNAMIC_RANK = 10, 1
_MAX_DYNAMIC = 100
_SESSION_KEY_BYTES = 32
_ALL_RIGHTS = frozenset(("talk", "emergency", "broadcast"))
_Stored = dict[str, Any]


class GroupRegistry:
    """All groups and devices of one hub.

    Changes take effect, and are announced, when they are on storage. Voice goes on meanwhile.

    Args:
        random_bytes: Returns a number of random bytes, for keys.
        barred: Barred devices.
        announce: Called with a device and a group number when the device has to be sent the group's terms.
        run_blocking: Runs a function that writes to storage, in a thread.

    Attributes:
        devices: By name.
        barred: Barred devices. They are members of no group.
        groups: By number.
        memberships: Of devices and dispatchers, by the member's SSRC.
        dispatchers: Sessions of dispatchers, by number.
        rtcp_indices: Keeps the SRTCP indices of packets to devices on storage.
    """

    def __init__(
        self,
        context: HubContext,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        barred: Iterable[str],
        announce: Callable[[Device, int], None],
        run_blocking: Callable[[Callable[[], None]], Awaitable[None]] = run_to_end,
    ) -> None:
        self._run_blocking = run_blocking
        self._lock = asyncio.Lock()  # one change after the other
        self._context, self._clock, self._random_bytes = context, clock, random_bytes
        self.barred, self._announce = {name for name in barred if name in context.keys}, announce
        folder = context.state
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = group_file.GroupFile(folder / "groups.json")
        self._ssrcs = SsrcAllocator(folder, context.hub.shard)
        self.rtcp_indices = persistence.HighWaterMark(folder / "srtcp.json", 16_384)
        self.devices = {
            name: Device(name, self._mcptt_id(name), key, self.rtcp_indices.first) for name, key in context.keys.items()
        }
        self.groups: dict[int, Group] = {}
        self.memberships: dict[int, Membership] = {}
        self.dispatchers: dict[int, Device] = {}
        self._dynamic: dict[int, _Stored] = {}
        self._private: dict[str, int] = {}
        self._next_private = PRIVATE_FIRST + 1
        self._load()

    def _mcptt_id(self, name: str) -> bytes:
        return f"sip:{name}@{self._context.site.name}".encode()

    # --- storage ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        stored = self._file.load()
        groups: dict[str, _Stored] = stored["groups"]
        self._private = stored["private"]
        self._next_private = max(self._private.values(), default=PRIVATE_FIRST) + 1
        new_devices = self.devices.keys() - self._private.keys()
        self._ssrcs.prepare(3 * len(new_devices))  # of its group, its own private group, and the hub there
        self._dynamic = {int(number): definition for number, definition in stored["dynamic"].items()}
        for config in self._context.site.group:
            if config.shard == self._context.hub.shard:
                group = self._build(
                    groups, config.id, config.name, "group", config.codec, config.rank, config.floor_rules()
                )
                self._add_members(group, groups, config.member)
        for number, definition in self._dynamic.items():
            self._build_dynamic(groups, number, definition)
        if self._context.is_home:
            for name in self.devices:
                self._build_private(groups, name)
        for text, group_state in groups.items():
            if int(text) not in self.groups:
                self._announce_removal(group_state["seats"], int(text))
        keys = self._successors() if self._ssrcs.is_renewal_due else {}
        self._file.write(self._encoded(keys))
        self._use_successors(keys)

    def _encoded(self, keys: Mapping[int, GroupKey] | None = None, without: int | None = None) -> list[bytes]:
        """Return the content of the file.

        Args:
            keys: Keys by group that take effect after they are on storage.
            without: Number of a group that will be removed.
        """
        groups = [group for number, group in self.groups.items() if number != without]
        dynamic = {number: definition for number, definition in self._dynamic.items() if number != without}
        return self._file.encode(groups, keys or {}, dynamic, self._private)

    async def _save(self, keys: Mapping[int, GroupKey] | None = None, without: int | None = None) -> None:
        content = self._encoded(keys, without)
        await self._run_blocking(lambda: self._file.write(content))

    def _build(
        self, stored: dict[str, _Stored], number: int, name: str, kind: str, codec: str, rank: int, rules: FloorRules
    ) -> Group:
        group_state = stored.get(str(number))
        if group_state:
            key, ssrc = GroupKey(group_state["key"], bytes.fromhex(group_state["secret"])), group_state["ssrc"]
        else:
            key, ssrc = GroupKey(0, b"").successor(self._random_bytes), self._ssrcs.new_ssrc()
        group = Group(number, name, kind, codec, rank, Floor(rules, ssrc, self._ssrcs.new_burst_ssrc), key)
        self.groups[number] = group
        return group

    def _build_dynamic(self, stored: dict[str, _Stored], number: int, definition: _Stored) -> Group:
        group = self._build(stored, number, definition["name"], "dynamic", "pcma", definition["rank"], FloorRules())
        devices = [name for name in definition["devices"] if name in self.devices]
        if devices:
            self._add_members(group, stored, [site_members.dynamic_members(definition, devices)])
        return group

    def _build_private(self, stored: dict[str, _Stored], name: str) -> None:
        number = self._private.get(name)
        if number is None:
            number = self._private[name] = self._next_private
            self._next_private += 1
        rules = FloorRules(deny_alone=False)  # a burst is recorded even if no dispatcher listens
        group = self._build(stored, number, name, "private", "pcma", 0, rules)
        self._add_members(group, stored, [site_members.private_members(self._context.site, name)])

    def _add_members(self, group: Group, stored: dict[str, _Stored], members: list[MemberConfig]) -> None:
        """Add members with the SSRCs they had, without barred devices.

        The key is replaced if a former member is missing.
        """
        stored_ssrcs: dict[str, int] = stored.get(str(group.number), {}).get("seats", {})
        for config in members:
            for name in config.devices:
                if name in self.barred:
                    continue
                device = self.devices[name]
                ssrc = stored_ssrcs.get(name) or self._ssrcs.new_ssrc()
                member = Member(name, ssrc, config.priority, frozenset(config.rights), device.mcptt_id)
                membership = Membership(device, group, member)
                group.memberships[name] = device.memberships[group.number] = self.memberships[ssrc] = membership
                group.floor.join(member)
        group.members_version += 1
        removed = [name for name in stored_ssrcs if name not in group.memberships]
        self._announce_removal(removed, group.number)
        if removed:
            key = group.key.successor(self._random_bytes)
            if any(name in self.barred for name in removed):
                group.replace_key_at_once(key)
            else:
                group.replace_key(key, self._clock.monotonic_ms())

    def _announce_removal(self, names: Iterable[str], number: int) -> None:
        """Inform former members, unless another hub has taken over the group."""
        for name in names if self._context.owns_group(number) else ():
            if name in self.devices:
                self._announce(self.devices[name], number)

    # --- SSRCs --------------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Reserve numbers on storage ahead of their use, and replace all keys before an SSRC repeats under one of them.

        Called each second. 65,536 bursts are left when the keys become due.

        Raises:
            OSError: Storage failed. The keys are as before.
        """
        for counter in (*self._ssrcs.counters, self.rtcp_indices):
            if counter.is_due:
                await self._run_blocking(counter.extend)
        if self._ssrcs.is_renewal_due:
            async with self._lock:
                keys = self._successors()
                await self._save(keys)
                self._use_successors(keys)

    def _successors(self) -> dict[int, GroupKey]:
        return {number: group.key.successor(self._random_bytes) for number, group in self.groups.items()}

    def _use_successors(self, keys: Mapping[int, GroupKey]) -> None:
        """Replace the keys of all groups by keys that are on storage; none: nothing to do."""
        if not keys:
            return
        self._ssrcs.keys_renewed = True
        for number, key in keys.items():
            self.groups[number].replace_key(key, self._clock.monotonic_ms())
        for membership in self.memberships.values():
            self._announce(membership.device, membership.group.number)

    # --- changes ------------------------------------------------------------------------------------------------------

    def find(self, number: int) -> Group:
        """Return a group by its number.

        Raises:
            UserError: The hub has no such group.
        """
        group = self.groups.get(number)
        if group is None:
            raise UserError(f"no group {number} at this hub; use a number that `groups` lists")
        return group

    async def make_group(self, name: str, devices: list[str]) -> Group:
        """Create a dynamic group, announce it to its devices, and return it.

        Raises:
            UserError: A device is unknown, no device is given, or the name is too long.
            OSError: Storage failed. There is no such group.
        """
        async with self._lock:
            self._check_new_group(name, devices)
            self._ssrcs.prepare(len(devices) + 2)  # members, the group's own, and its number
            shard_bits = self._context.hub.shard << DYNAMIC_SHARD_SHIFT
            number = DYNAMIC_FIRST | shard_bits | self._ssrcs.new_ssrc() & 0x3FFFFFF  # never used again
            definition = {
                "name": name,
                "devices": sorted(set(devices)),
                "priority": _DYNAMIC_PRIORITY,
                "rank": _DYNAMIC_RANK,
            }
            self._dynamic[number] = definition
            group = self._build_dynamic({}, number, definition)
            try:
                await self._save()
            except BaseException:
                self._remove(group)
                raise
            self._announce_to_members(group)
            return group

    def _check_new_group(self, name: str, devices: Collection[str]) -> None:
        for device in devices:
            if device not in self.devices:
                raise UserError(f"no device {device!r} at this site; add its key to {self._context.site.keys}")
            if device in self.barred:
                raise UserError(f"{device} is barred; leave it out, or admit it with `patrolink hub unbar`")
        if len(self._dynamic) >= _MAX_DYNAMIC:
            raise UserError(f"there are {_MAX_DYNAMIC} dynamic groups, which is the limit; end one first")
        if not devices or not 0 < len(name.encode()) <= 40:
            raise UserError("a group needs at least one device and a name of 1 to 40 bytes in UTF-8")

    def _remove(self, group: Group) -> None:
        """Remove a dynamic group from memory."""
        del self._dynamic[group.number], self.groups[group.number]
        self._file.forget(group.number)
        for membership in group.memberships.values():
            del self.memberships[membership.member.ssrc], membership.device.memberships[group.number]

    async def end_group(self, number: int) -> Group:
        """End a dynamic group, inform its devices, and return it.

        Raises:
            UserError: The number is not that of a dynamic group.
            OSError: Storage failed. The group continues.
        """
        async with self._lock:
            if number not in self._dynamic:
                raise UserError(f"group {number} cannot be ended: it is not a dynamic group; edit the site file")
            await self._save(without=number)
            group = self.groups[number]
            self._remove(group)
        for membership in group.memberships.values():
            group.floor.leave(membership.member, self._clock.monotonic_ms())
        for session, device in list(self.dispatchers.items()):
            if number in device.memberships:
                self.leave(session, number)
        self._announce_to_members(group)
        return group

    def expel(self, name: str) -> list[Group]:
        """Remove a barred device from all groups, and return them: they need new keys, see `replace_keys`."""
        self.barred.add(name)
        device, now_ms = self.devices[name], self._clock.monotonic_ms()
        groups = []
        for membership in device.memberships.values():
            del self.memberships[membership.member.ssrc], membership.group.memberships[name]
            membership.group.members_version += 1
            membership.group.floor.leave(membership.member, now_ms)
            membership.group.update_targets()
            groups.append(membership.group)
        device.memberships.clear()
        for group in groups:
            self._announce(device, group.number)
        return groups

    async def replace_keys(self, groups: Iterable[Group]) -> None:
        """Replace the keys of groups at once, without an overlap, and announce them to the members.

        Raises:
            OSError: Storage failed. The keys are as before.
        """
        async with self._lock:
            keys = {group.number: group.key.successor(self._random_bytes) for group in groups}
            await self._save(keys)
            for group in groups:
                group.replace_key_at_once(keys[group.number])
                for membership in (*group.memberships.values(), *group.dispatchers.values()):
                    self._announce(membership.device, group.number)

    async def readmit(self, name: str) -> list[Group]:
        """Give a device that was barred its memberships, announce them, and return the groups. May be repeated.

        Raises:
            OSError: Storage failed. The device is not informed yet.
        """
        async with self._lock:
            self.barred.discard(name)
            device = self.devices[name]
            memberships = site_members.memberships_of(name, self._context.site, self._dynamic, self._private)
            for number in sorted(self.groups.keys() & memberships.keys() - device.memberships.keys()):
                self._add_members(self.groups[number], {}, [memberships[number]])
            await self._save()
            for number in device.memberships:
                self._announce(device, number)
            return [membership.group for membership in device.memberships.values()]

    def _announce_to_members(self, group: Group) -> None:
        for membership in group.memberships.values():
            self._announce(membership.device, group.number)

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group.

        Raises:
            UserError: The device is unknown, or this is not the home hub.
        """
        number = self._private.get(device)
        if number not in self.groups:
            home = self._context.site.home_shard()
            raise UserError(
                f"no private group of {device!r} at this hub; private groups are at the hub of shard {home}"
            )
        return number

    # --- dispatchers --------------------------------------------------------------------------------------------------

    def join(self, session: int, name: str, priority: int, number: int) -> Membership:
        """Make a dispatcher's session a member of a group, with all rights. A new session gets a key of its own.

        Raises:
            UserError: The hub has no such group.
            OSError: No SSRC could be reserved on storage.
        """
        group = self.find(number)
        ssrc = self._ssrcs.new_ssrc()
        device = self.dispatchers.get(session)
        if device is None:
            key = DeviceKey(self._random_bytes(_SESSION_KEY_BYTES))
            device = self.dispatchers[session] = Device(name, self._mcptt_id(name), key, 0, is_dispatcher=True)
        membership = Membership(device, group, Member(name, ssrc, priority, _ALL_RIGHTS, device.mcptt_id))
        device.memberships[number] = group.dispatchers[ssrc] = self.memberships[ssrc] = membership
        group.floor.join(membership.member)
        return membership

    def leave(self, session: int, number: int) -> Group | None:
        """Remove a dispatcher's session from a group and return the group; None if it is no member."""
        device = self.dispatchers.get(session)
        membership = device.memberships.pop(number, None) if device else None
        if device is None or membership is None:
            return None
        if not device.memberships:
            del self.dispatchers[session]
        group = membership.group
        del self.memberships[membership.member.ssrc], group.dispatchers[membership.member.ssrc]
        group.floor.leave(membership.member, self._clock.monotonic_ms())
        group.update_targets()
        return group
