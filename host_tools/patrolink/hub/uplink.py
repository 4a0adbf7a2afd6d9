"""Processes frames of devices: authenticates and decodes them, and passes each row to the service in charge."""

from typing import Protocol

from patrolink_messages import EVENT, REJECT
from patrolink_names import TIMER_REJECT_INTERVAL_MS, TIMER_REPLAY_REJECT_INTERVAL_MS
from patrolink_protocol import frame

from patrolink.core.capture import Record
from patrolink.core.clock import Clock
from patrolink.core.decoder import Decoder, Row
from patrolink.hub.barring import Barring
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.incidents.service import IncidentService
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.device_keys import DeviceKeys
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.frame_digests import FrameDigests
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.rate_limits import NoticeLimiter, Rate, TokenBucket
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink.hub.positions import PositionTable
from patrolink.hub.updates.service import UpdateService

# Of one device. One that was offline for three days delivers about 5,000 frames at once.
_FRAMES = Rate(10_000, 100)
_OF_BARRED = ("event", "answer", "ptt_status")  # messages of a barred device that are processed


class AnswerHandler(Protocol):
    """Processes answers of devices to commands: LiveSessions."""

    def on_answer(self, row: Row) -> None:
        """Process the decoder's row of an `answer`."""


class ManifestHandler(Protocol):
    """Processes clip manifests: ClipIntake."""

    def announce(self, row: Row) -> None:
        """Process the decoder's row of a `clip_manifest`."""


class DeviceObserver(Protocol):
    """Informed of what devices send: VoiceProxy."""

    def frame_received(self, device: str, is_hello: bool) -> None:
        """Process the arrival of a frame."""

    def report_received(self, device: str, room: int, groups: bytes) -> None:
        """Process the fields of a `ptt_status`."""

    def epoch_begun(self, device: str, epoch: int) -> None:
        """Follow a device into another key epoch."""


class UplinkService:
    """Uplink of a hub.

    Args:
        decoder: Decoder with the keys of all devices. It continues with the windows and epochs of `replay`.
        replay: Told of each frame when it was processed.
        keys: Of the devices. A device that has begun a new key epoch is rekeyed.
        voice: Informed of frames, reports of groups and key epochs, to announce the device's groups.
        barring: The barred devices. What they send is refused, except for events and answers to commands.
        clips: None if this hub takes no clips.
        updates: None unless this is the home hub.
    """

    def __init__(
        self,
        decoder: Decoder,
        replay: ReplayStore,
        keys: DeviceKeys,
        voice: DeviceObserver,
        barring: Barring,
        positions: PositionTable,
        incidents: IncidentService,
        live: AnswerHandler,
        clips: ManifestHandler | None,
        updates: UpdateService | None,
        sender: DeviceSender,
        dispatchers: Broadcaster,
        warnings: DeviceWarnings,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._decoder, self._replay, self._keys, self._voice = decoder, replay, keys, voice
        self._barring = barring
        self._positions, self._incidents, self._live, self._clips = positions, incidents, live, clips
        self._updates = updates
        self._sender, self._dispatchers, self._warnings = sender, dispatchers, warnings
        self._audit, self._clock, self._metrics = audit, clock, metrics
        self._digests = FrameDigests()
        self._rejects = NoticeLimiter(TIMER_REJECT_INTERVAL_MS)
        self._replay_rejects = NoticeLimiter(TIMER_REPLAY_REJECT_INTERVAL_MS)  # anybody may repeat old frames
        self._frames = {name: TokenBucket(_FRAMES) for name in keys}
        replay.restore(decoder)
        for device, key in keys.items():
            if decoder.epoch(device) != key.epoch:
                self._rekey(device)

    def receive(self, record: Record) -> None:
        """Process one frame. A frame that is refused is counted by reason."""
        if not self._has_budget(record):
            self._metrics.refused["frame rate"] += 1
            self._warnings.warn(record.device, "flood", message="frame")
            return
        rows = self._decoder.rows(record)
        if self._decoder.reject_reason:
            self._metrics.refused[f"frame {self._decoder.reject_reason}"] += 1
            if self._decoder.reject_is_genuine:
                self._process_rejected(record)
            return
        self._metrics.counts["frames"] += 1
        is_new = bool(rows) and not rows[0].get("repeated")
        if is_new:
            self._frames[record.device].take(self._clock.monotonic_ms())
        device = record.device
        if device in self._barring.bars:
            self._process_barred(device, rows)
        else:
            self._process(device, rows)
        is_new_epoch = self._decoder.epoch(device) != self._keys[device].epoch
        if is_new_epoch:
            self._rekey(device)
        self._voice.frame_received(device, is_new_epoch or any(row["record"] == "hello" for row in rows))
        if not is_new:
            self._metrics.counts["frames_repeated"] += 1
            self._check_repeated(record)
        else:
            self._digests.record(device, self._decoder.epoch(device), rows[0]["counter"], _tag(record.frame))
            self._replay.commit(device, self._decoder.epoch(device), rows[0]["counter"])

    def _process_rejected(self, record: Record) -> None:
        """Record the counter of an authentic frame that was rejected, and report the frame to its device.

        The counter is used up, after a restart too. A reject is not reported.
        """
        kind, _, counter = frame.parse_header(record.frame)
        device, reason = record.device, self._decoder.reject_reason
        self._replay.commit(device, self._decoder.epoch(device), counter)
        now_ms = self._clock.monotonic_ms()
        if kind == REJECT or (reason == "replay" and not self._replay_rejects.is_due(device, now_ms)):
            return
        if self._rejects.is_due(device, now_ms):
            self._sender.reject_frame(device, kind, counter, reason)

    def _check_repeated(self, record: Record) -> None:
        """Warn if an authentic frame has a counter that another frame had: two devices have the same key."""
        _, _, counter = frame.parse_header(record.frame)
        if self._digests.is_other(record.device, self._decoder.epoch(record.device), counter, _tag(record.frame)):
            self._warnings.warn(record.device, "clone", sign="same counter, other content", counter=counter)

    def _has_budget(self, record: Record) -> bool:
        """Return True if the device may send another frame. Events have limits of their own; see IncidentService.

        Only authentic and new frames are charged, so nobody else can use up the budget of a device.
        """
        bucket = self._frames.get(record.device)
        if bucket is None or bucket.has_token(self._clock.monotonic_ms()):
            return True
        return record.frame[:1] != b"" and record.frame[0] & 31 == EVENT

    def _process(self, device: str, rows: list[Row]) -> None:
        if rows and self._updates is not None:
            self._updates.frame_received(device)
        if rows and rows[0]["record"] == "position":
            stored = [self._positions.update(row) for row in rows]
            if any(stored):
                self._dispatchers.broadcast({"type": "position", **self._positions.with_age(device)})
        else:
            for row in rows:
                self._process_message(device, row)

    def _process_barred(self, device: str, rows: list[Row]) -> None:
        """Process a frame of a barred device.

        An SOS may be that of its wearer, dispatchers see its answers, and it may not know yet that it has left groups.
        """
        for row in rows:
            if row["record"] not in _OF_BARRED:
                self._metrics.refused["frame barred"] += 1
                break
            self._process_message(device, row)
        self._barring.contacted(device)

    def _process_message(self, device: str, row: Row) -> None:
        message = row["record"]
        if message == "event":
            if row.get("repeated"):
                self._incidents.event_repeated(row)
            else:
                self._incidents.event_received(row)
        elif message == "answer":
            self._dispatchers.broadcast({"type": "answer", **row})
            self._audit.note(device, "answer", command=row["command_id"], result=row["result"], text=row["text"])
            self._live.on_answer(row)
            self._barring.on_answer(row)
        elif message == "time_sync":
            self._sender.answer_time(device, row["originate_ms"])
        elif message == "reject":
            self._metrics.counts["frames_rejected_by_devices"] += 1
        elif message == "ptt_status":
            self._voice.report_received(device, row["room"], bytes.fromhex(row["groups"]))
        elif message == "clip_manifest" and self._clips is not None:
            self._clips.announce(row)
        elif self._updates is not None:
            self._process_update(self._updates, row)

    def _process_update(self, updates: UpdateService, row: Row) -> None:
        if row["record"] == "hello":
            updates.hello_received(row)
        elif row["record"] == "firmware_status":
            updates.status_received(row)
        elif row["record"] == "firmware_request":
            updates.request_received(row)

    def _rekey(self, device: str) -> None:
        """Follow a device into its next key epoch. Its group keys have to be wrapped again."""
        key = self._keys.begin_epoch(device, self._decoder.epoch(device))
        self._metrics.counts["key_epochs"] += 1
        self._sender.rekey(device, key)
        self._voice.epoch_begun(device, key.epoch)


def _tag(data: bytes) -> bytes:
    """Return the tag of an authentic frame."""
    return data[-frame.tag_bytes(data[0] & 31) :]
