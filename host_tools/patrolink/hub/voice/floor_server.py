"""Runs the floors of all groups: timers, and delivery of the effects that the floor machines return."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from patrolink.core.clock import Clock
from patrolink.hub.voice.floor_sender import FloorSender
from patrolink.hub.voice.floor_types import FloorEvent, FloorMessage, Member
from patrolink.hub.voice.groups import Group, Membership

_MESSAGES_PER_TURN = 32  # voice packets have their turn after so many
_MAX_WAITING = 10_000  # of one group; the oldest are dropped, which the repeats of T7 repair


class FloorServer:
    """Floor control server of a hub (3GPP TS 24.380), over all groups.

    Args:
        memberships: By the member's SSRC.
        sender: Sends messages to members.
        on_event: Called for each event on a group's floor.
    """

    def __init__(
        self,
        clock: Clock,
        memberships: Mapping[int, Membership],
        sender: FloorSender,
        on_event: Callable[[Group, FloorEvent], None],
    ) -> None:
        self._clock, self._memberships, self._sender, self._on_event = clock, memberships, sender, on_event
        self._timers: dict[int, asyncio.TimerHandle] = {}  # by group
        self._waiting: dict[int, deque[FloorMessage]] = {}  # by group, of groups with many members
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
        """Deliver the last effects of a group that has ended, and drop its timer."""
        self._deliver(group)
        self._waiting.pop(group.number, None)  # the members learn from their terms that the group has ended
        timer = self._timers.pop(group.number, None)
        if timer is not None:
            timer.cancel()

    def update(self, group: Group) -> None:
        """Deliver the effects of a change of the group's members."""
        self._run(group)

    def sync(self, group: Group, member: Member) -> None:
        """Send a member that has appeared the state of the floor (late entry)."""
        group.floor.sync(member, self._clock.monotonic_ms())
        self._run(group)

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
        count = 0
        for effect in group.floor.take_effects():
            if isinstance(effect, FloorEvent):
                self._on_event(group, effect)
            elif count < _MESSAGES_PER_TURN and group.number not in self._waiting:
                count += 1
                self._send(effect)
            else:
                self._defer(group, effect)

    def _send(self, message: FloorMessage) -> None:
        membership = self._memberships.get(message.member.ssrc)
        if membership is not None:  # otherwise the member has left meanwhile
            self._sender.send(membership.device, message.data)

    def _defer(self, group: Group, message: FloorMessage) -> None:
        """Send a message in a later turn of the loop. The order in a group is kept; groups take turns."""
        if self._loop is None:
            return
        if not self._waiting:
            self._loop.call_soon(self._send_waiting)
        self._waiting.setdefault(group.number, deque(maxlen=_MAX_WAITING)).append(message)

    def _send_waiting(self) -> None:
        if not self._waiting:
            return
        number, messages = next(iter(self._waiting.items()))
        del self._waiting[number]
        for _ in range(min(_MESSAGES_PER_TURN, len(messages))):
            self._send(messages.popleft())
        if messages:
            self._waiting[number] = messages
        if self._waiting and self._loop is not None:
            self._loop.call_soon(self._send_waiting)
