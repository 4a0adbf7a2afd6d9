"""A dispatcher at work: a participant of the hub's groups inside its process.

Who builds on it (console, and `talk` and `listen` through it) calls `Hub.dispatcher(token)` (None: no such token) and
`Hub.desk(dispatcher)`, reads `await desk.next()`, and calls what is below. All of it is called on the hub's event loop;
nothing blocks. What a dispatcher does is written to the audit log. The page's server is `console.serve(hub, place,
routes)`, where the hub adds /metrics and /status.

`next()` returns a VoiceFrame, a LiveFrame, or a dictionary for JSON whose `type` is

    floor      a group's floor has changed: the fields of `groups()`
    counts     of the burst under way in a group, each second: group, packets, lost
    granted    speak now: group, duration_ms
    queued     group, position
    denied     group, cause, text
    revoked    stop: group, cause, text
    released   our burst, or our wish to speak, is over: group
    group      a group has come or changed: the fields of `groups()`
    gone       a group has ended: group
    position   a device's newest fix: the fields of `positions()`
    event      an SOS or another event of a device, or what became of it: the fields of `alarms()`
    answer     of a device to a command: the row of the decoder
    recording  a burst has been recorded: the fields of `recordings()`
    clip       a clip has come or changed: the fields of `clips()`
    clip gone  the site keeps it no longer: device, clip
    signer     a device signs its clips with another key: device, signer
    live       a live view has been asked for, is on, is watched by others, is over: the fields of `live()`
    lost       this reader is too slow: count of what was left out
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink_protocol import mcptt as m

from patrolink.core.errors import UserError
from patrolink.hub.dispatch.messages import LiveFormat, LiveFrame, VoiceFrame
from patrolink.hub.voice.floor_types import Member

if TYPE_CHECKING:
    from patrolink.hub.app import Hub
    from patrolink.hub.voice.groups import Group

_MOST_WAITING = 500
FRAME = 160  # bytes of A-law in 20 ms
FRAME_MAX_BYTES = 3 * FRAME
_DENY = {
    m.DENY_TAKEN: "another has it",
    m.DENY_INTERNAL: "the hub failed",
    m.DENY_ALONE: "nobody else is there",
    m.DENY_RECEIVE_ONLY: "may only listen",
    m.DENY_RESOURCES: "no resources",
    m.DENY_QUEUE_FULL: "the queue is full",
}
_REVOKE = {
    m.REVOKE_TOO_LONG: "talk time is over",
    m.REVOKE_NO_PERMISSION: "without permission",
    m.REVOKE_PREEMPTED: "pre-empted",
}


class DispatcherSession:
    """One dispatcher, from `Hub.login` to `close`.

    Methods raise UserError for a group or device that does not exist and for what the dispatcher may not do.
    """

    def __init__(self, hub: "Hub", name: str, priority: int) -> None:
        self.name = name
        self._hub = hub
        self._priority = priority
        self._members: dict[int, Member] = {}  # of the groups that it listens to
        self._held: dict[int, _Burst] = {}  # where it speaks
        self._wanted: set[int] = set()  # where the key is down
        self._waiting: deque[dict[str, Any] | VoiceFrame | LiveFrame] = deque()
        self._pictures: dict[int, LiveFrame] = {}  # of each view the newest, the one that waits longest first
        self._ready = asyncio.Event()
        self._lost = 0
        self._message = m.Message()
        self._buf = bytearray(256)
        self._writer = m.Writer(self._buf)
        self._closed = False

    # --- what is -----------------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """Return every group: group, name, kind (standing, dynamic, private), codec, members (names), the fields of
        `Floor.status`, now_ms (on the clock of since_ms and ends_ms), and packets and lost of the burst under way.
        """
        return [self._hub.status_of(group) for group in self._hub.roster.groups.values()]

    def positions(self) -> list[dict[str, Any]]:
        """Return the newest fix of every device: the decoder's position row and age_s."""
        return self._hub.positions()

    def alarms(self) -> list[dict[str, Any]]:
        """Return the events that a person has to take: the decoder's rows, and taken_by."""
        return self._hub.alarms.rows()

    def recordings(self, group: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return recorded bursts, newest first: id, group, talker, start (RFC 3339), duration_ms, packets, lost, ..."""
        return self._hub.recorder.newest(group, limit)

    def recording(self, name: str) -> Path:
        """Return the sound file of a recording by its id; whoever plays one is written down."""
        path = self._hub.recorder.path(name)
        self._hub.audit(self.name, "replay", recording=name)
        return path

    # --- clips -------------------------------------------------------------------------------------------------------

    def clips(self, limit: int = 200) -> list[dict[str, Any]] | None:
        """Return clips, newest first: device, clip, trigger, event, time_ms, duration_ms, state (told, coming, here,
        missing), bytes, bytes_here, verdict, findings, kept, picture (it may be seen). None where this hub takes none.
        Whoever lists them is written down.
        """
        if self._hub.clips is None:
            return None
        self._hub.clips.access.record(self.name, "listed")
        return self._hub.clips.feed.newest(limit)

    def preserve_clip(self, device: str, clip: int) -> int:
        """Have a clip kept, here over its retention and at the device; return the command's id."""
        if self._hub.clips is None:
            raise UserError("this hub takes no clips; name `uploads` in the site file")
        self._hub.clips.access.record(self.name, "preserved", device=device, clip=clip)
        self._hub.clips.access.preserve(device, clip)
        return self._hub.orders.command(self.name, device, "preserve_clip", clip)

    # --- listen and talk ---------------------------------------------------------------------------------------------

    def listen(self, group: int) -> None:
        """Hear a group from now on."""
        it = self._group(group)
        if group in self._members:
            return
        member = self._hub.roster.take_seat(it, self.name, self._priority, self._receive)
        self._members[group] = member
        it.desks.append(self)
        self._hub.floor_of(it, lambda floor, now: floor.sync(member, now))

    def leave(self, group: int) -> None:
        """Hear it no more; the floor, if it is ours, is free."""
        member = self._members.pop(group, None)
        if member is None:
            return
        self._wanted.discard(group)
        self._held.pop(group, None)
        it = self._hub.roster.groups.get(group)
        if it is not None:
            it.desks.remove(self)
            self._hub.floor_of(it, lambda floor, now: self._hub.roster.give_up_seat(it, member))

    def press(self, group: int, priority: int | None = None, emergency: bool = False, broadcast: bool = False) -> None:
        """Ask for a group's floor; `granted`, `queued` or `denied` comes. Listens to the group from now on."""
        self.listen(group)
        it, member = self._group(group), self._members[group]
        indicator = m.EMERGENCY if emergency else m.BROADCAST if broadcast else m.NORMAL
        self._wanted.add(group)
        self._hub.audit(self.name, "press", group=group, emergency=emergency, broadcast=broadcast)
        w = self._writer
        w.clear()
        w.begin(m.REQUEST, member.ssrc)
        w.pair(m.PRIORITY, self._priority if priority is None else min(priority, self._priority))
        w.word(m.INDICATOR, indicator | m.QUEUEING)
        w.end()
        self._say(it, member)

    def release(self, group: int) -> None:
        """Give the floor back, or the wish for it up."""
        member = self._members.get(group)
        if member is None or group not in self._wanted:
            return
        self._wanted.discard(group)
        self._held.pop(group, None)
        w = self._writer
        w.clear()
        w.begin(m.RELEASE, member.ssrc)
        w.end()
        self._say(self._group(group), member)
        self.put({"type": "released", "group": group})

    def send_audio(self, group: int, alaw: bytes) -> bool:
        """Speak: 1 to 480 bytes of A-law at 8 kHz, best 160 (20 ms). False, and nothing is sent, without the floor."""
        burst = self._held.get(group)
        if burst is None or not 0 < len(alaw) <= FRAME_MAX_BYTES:
            return False
        return self._hub.speak(burst.ssrc, burst.packet(alaw))

    def holds(self, group: int, ssrc: int) -> bool:
        """True when this burst is ours."""
        held = self._held.get(group)
        return held is not None and held.ssrc == ssrc

    # --- groups and devices ------------------------------------------------------------------------------------------

    def make_group(self, name: str, devices: list[str]) -> int:
        """Make a dynamic group of devices and return its number; they are told at once."""
        group = self._hub.make_group(name, devices)
        self._hub.audit(self.name, "make_group", group=group, name=name, devices=devices)
        return group

    def end_group(self, group: int) -> None:
        """End a dynamic group; its devices are told."""
        self._hub.end_group(group)
        self._hub.audit(self.name, "end_group", group=group)

    def private_group(self, device: str) -> int:
        """Return the number of the group of one device and the station; `press` there is a private call."""
        return self._hub.roster.private(device)

    def answer_event(self, device: str, event_id: int, state: str) -> None:
        """Tell the wearer how far the answer to an event is (`accepted`, `resolved`, ... of event_state)."""
        self._hub.answer_event(self.name, device, event_id, state)

    def command(self, device: str, action: str, number: int | None = None, name: str = "", value: str = "") -> int:
        """Send a command of the schema (`locate`, `stun`, ...) and return its id; `answer` comes.

        Listening in and live view are not among them: see `listen_in` and `live_start`.
        """
        return self._hub.orders.command(self.name, device, action, number, name, value)

    def listen_in(self, device: str, reason: str) -> int:
        """Ask a device to open its microphone to its private group, and listen there; return the command's id.

        UserError unless the site's policy allows it. `reason` is for the audit log; the device lights its indicator.
        """
        command = self._hub.orders.listen_in(self.name, device, reason)
        self.listen(self._hub.roster.private(device))
        return command

    # --- live view ---------------------------------------------------------------------------------------------------

    def live(self) -> list[dict[str, Any]] | None:
        """Return the live views that are on: see LiveSessions.rows; None where this hub takes none."""
        return self._hub.live.rows()

    def live_start(self, device: str, seconds: int, form: LiveFormat) -> int:
        """Watch a device's camera from now on, as `jpeg` or `rtp`; return the view's id. The device lights its
        indicator. A view that another began is watched with it, and ends when it would.
        """
        return self._hub.live.start(self, device, seconds, form)

    def live_stop(self, device: str) -> None:
        """Watch it no more; when nobody else does, the device is told to end it."""
        self._hub.live.stop(self, device)

    # --- what comes --------------------------------------------------------------------------------------------------

    async def next(self) -> "dict[str, Any] | VoiceFrame | LiveFrame":
        """Return what happens next, in order. A reader that is slow loses the oldest, and is told how many.

        Pictures come when nothing else waits, and of each view the newest only.
        """
        while not self._waiting and not self._lost and not self._pictures:
            self._ready.clear()
            await self._ready.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"type": "lost", "count": lost}
        if self._waiting:
            return self._waiting.popleft()
        return self._pictures.pop(next(iter(self._pictures)))

    def put_picture(self, picture: LiveFrame) -> bool:
        """Hand a picture to `next`; the hub calls it. False when the one before is left out for it."""
        before = self._pictures.get(picture.view)
        self._pictures[picture.view] = picture
        self._ready.set()
        return before is None

    def put(self, what: "dict[str, Any] | VoiceFrame | LiveFrame") -> None:
        """Hand something to `next`; the hub calls it."""
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(what)
        self._ready.set()

    def close(self) -> None:
        """The dispatcher goes: its floors are free."""
        if not self._closed:
            self._closed = True
            for group in list(self._members):
                self.leave(group)
            self._hub.logout(self)

    # --- its floor machine: within one process nothing is lost, and nothing is said twice ----------------------------

    def _receive(self, member: Member, data: bytes) -> None:
        """The hub's floor control says something to this desk in one of its groups."""
        group = next((n for n, mine in self._members.items() if mine is member), None)
        if group is None:
            return
        message, at = self._message, 0
        while at < len(data):
            at = message.read(data, at, len(data), m.DOWNLINK_TYPES)
            if message.type == m.GRANTED:
                self._granted(group, message)
            elif message.type == m.DENY:
                self._over(group, "denied", message.cause, _DENY)
            elif message.type == m.REVOKE:
                self._over(group, "revoked", message.cause, _REVOKE)
            elif message.type == m.QUEUE_POSITION_INFO and message.position != m.NOT_QUEUED:
                self.put({"type": "queued", "group": group, "position": message.position})
            elif message.type in (m.TAKEN, m.IDLE) and group in self._held:
                self._over(group, "revoked", m.OTHER, _REVOKE)

    def _granted(self, group: int, message: m.Message) -> None:
        held = self._held.get(group)
        if group in self._wanted and (held is None or held.ssrc != message.audio_ssrc):
            self._held[group] = _Burst(message.audio_ssrc)
            self.put({"type": "granted", "group": group, "duration_ms": message.duration * 1000})

    def _over(self, group: int, what: str, cause: int, texts: dict[int, str]) -> None:
        self._wanted.discard(group)
        self._held.pop(group, None)
        self.put({"type": what, "group": group, "cause": cause, "text": texts.get(cause, "")})

    def _say(self, group: "Group", member: Member) -> None:
        data = bytes(self._buf[: self._writer.n])
        self._hub.floor_of(group, lambda floor, now: floor.receive(member, data, member.index + 1, now))

    def _group(self, group: int) -> "Group":
        it = self._hub.roster.groups.get(group)
        if it is None:
            raise UserError(f"no group {group} at this hub; `groups` lists them")
        return it


class _Burst:
    """Numbers of the RTP packets of one burst of ours."""

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self._sequence = self._stamp = 0

    def packet(self, alaw: bytes) -> bytes:
        """Return the plain RTP packet (RFC 3550 5.1, payload type 8) of the next samples."""
        head = bytes((0x80, 8 if self._sequence else 0x88))
        head += self._sequence.to_bytes(2, "big") + self._stamp.to_bytes(4, "big") + self.ssrc.to_bytes(4, "big")
        self._sequence += 1
        self._stamp += len(alaw)
        return head + alaw
