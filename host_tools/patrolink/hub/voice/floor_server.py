"""Runs the floors of all groups: timers, and delivery of the effects that the floor machines return."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from patrolink.core.clock import Clock
from patrolink.hub.voice.floor_sender import FloorSender
from patrolink.hub.voice.floor_types import FloorEffect, FloorEvent, FloorMessage, Member
from patrolink.hub.voice.groups import Group


class LocalParticipant(Protocol):
    """A floor participant in the hub's process: a dispatcher."""

    def receive_floor(self, group: int, data: bytes) -> None:
        """Process plain floor control messages of a group's floor."""

    def group_ended(self, group: int) -> None:
        """Drop all state of a group that no longer exists."""


class FloorServer:
    """Floor control server of a hub (3GPP TS 24.380), over all groups.

    Args:
        sender: Sends messages to devices.
        on_event: Called for each event on a group's floor.
    """

    def __init__(self, clock: Clock, sender: FloorSender, on_event: Callable[[Group, FloorEvent], None]) -> None:
        self._clock, self._sender, self._on_event = clock, sender, on_event
        self._participants: dict[int, LocalParticipant] = {}  # by SSRC
        self._timers: dict[int, asyncio.TimerHandle] = {}  # by group
        self._effects: deque[tuple[Group, FloorEffect]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Run timers from now on."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Stop all timers."""
        self._loop = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # --- groups and members -------------------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Announce the idle floor of a group whose members are known."""
        group.floor.start(self._clock.monotonic_ms())
        self._run(group)

    def close_group(self, group: Group) -> None:
        """Deliver the last effects of a group that has ended, and drop its timer and dispatchers."""
        self._deliver(group)
        timer = self._timers.pop(group.number, None)
        if timer is not None:
            timer.cancel()
        for ssrc in list(group.floor.members):
            participant = self._participants.pop(ssrc, None)
            if participant is not None:
                participant.group_ended(group.number)

    def join(self, group: Group, member: Member, participant: LocalParticipant) -> None:
        """Add a dispatcher to a group and send it the state of the floor."""
        self._participants[member.ssrc] = participant
        group.floor.join(member)
        self.sync(group, member)

    def leave(self, group: Group, member: Member) -> None:
        """Remove a dispatcher from a group; its floor is released."""
        group.floor.leave(member, self._clock.monotonic_ms())
        del self._participants[member.ssrc]
        self._run(group)

    def sync(self, group: Group, member: Member) -> None:
        """Send a member that has appeared the state of the floor (late entry)."""
        group.floor.sync(member, self._clock.monotonic_ms())
        self._run(group)

    def participant_count(self, group: Group) -> int:
        """Return how many dispatchers have joined a group."""
        return sum(ssrc in self._participants for ssrc in group.floor.members)

    # --- messages and voice -------------------------------------------------------------------------------------------

    def receive(self, group: Group, member: Member, data: bytes, index: int) -> None:
        """Process a plain floor control datagram of a member; see Floor.receive for errors."""
        try:
            group.floor.receive(member, data, index, self._clock.monotonic_ms())
        finally:
            self._run(group)

    def permits_voice(self, group: Group, member: Member, ssrc: int) -> bool:
        """Return True if an authenticated voice packet is to be forwarded. A sender without the floor is revoked."""
        if group.floor.voice(member, ssrc, self._clock.monotonic_ms()):
            return True
        self._run(group)
        return False

    # --- timers and effects -------------------------------------------------------------------------------------------

    def _run(self, group: Group) -> None:
        wait_ms = group.floor.poll(self._clock.monotonic_ms())
        timer = self._timers.pop(group.number, None)
        if timer is not None:
            timer.cancel()
        if wait_ms is not None and self._loop is not None:
            self._timers[group.number] = self._loop.call_later(max(wait_ms, 1) / 1000, self._run, group)
        self._deliver(group)

    def _deliver(self, group: Group) -> None:
        # A dispatcher may answer while an effect is delivered. One queue for all keeps the order of effects.
        self._effects.extend((group, effect) for effect in group.floor.take_effects())
        while self._effects:
            effect_group, effect = self._effects.popleft()
            if isinstance(effect, FloorEvent):
                self._on_event(effect_group, effect)
            else:
                self._send(effect_group, effect)

    def _send(self, group: Group, message: FloorMessage) -> None:
        participant = self._participants.get(message.member.ssrc)
        if participant is not None:
            participant.receive_floor(group.number, message.data)
            return
        membership = group.memberships.get(message.member.name)
        if membership is not None and membership.member is message.member:
            self._sender.send(membership.device, message.data)
