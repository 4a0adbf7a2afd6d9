"""The agent of one device: its parts, its main loop and its buttons."""

import gc

import patrolink_enums as enums
import patrolink_messages as m
from agent.gps.sentences import GpsReceiver
from agent.link.backoff import Backoff
from agent.link.downlink import Downlink
from agent.link.event_queue import EventQueue
from agent.link.latest_frame import LatestFrame
from agent.link.outbox import Outbox
from agent.link.session import Session
from agent.link.supervisor import Supervisor
from agent.tracking.counter import Counter, Record
from agent.tracking.device_clock import DeviceClock
from agent.tracking.device_status import DeviceStatus
from agent.tracking.plausibility import PositionJudge
from agent.tracking.reporter import Reporter
from agent.wearer.sos import Sos
from compat import modules
from compat.stream import Network
from patrolink_protocol import cipher, frame  # noqa: F401 - the cipher is compiled while the heap is whole
from patrolink_protocol.native import const

_DRAIN_MS = const(10000)
_COLLECT_MS = const(1000)
_TIME_ELSEWHERE_MS = const(30000)  # the receiver and the network mostly give the time sooner
_SHORT_ROUND_MS = const(5)
_SLICE_MS = const(20)
_PTT_SLICE_MS = const(5)
_REQUEST_BYTES = const(32)  # a firmware_request has 27


class Device:
    """Builds the parts of a device and runs them.

    Args:
        config: The checked configuration (app.config).
        hal: The platform: module hal.posix.platform, or an object with the same names (hal/contract.md).
        log: Function of one string.
        slot: Number of the slot that this agent runs from, or None.

    Attributes:
        outbox, event_queue, request, reporter, net, session, link, sos: Parts that every device has.
        modem, ptt, camera, recording, live_view: Optional parts, or None.

    Raises:
        ConfigError: The board cannot provide what the configuration asks for.
        StateLostError: The frame counter is lost.
    """

    def __init__(self, config, hal, log, slot=None):
        self._hal = hal
        self._log = log
        self._clock = hal.Clock()
        self._power_off = False
        self._wait_ms = hal.IDLE_MS
        self._collect_at_ms = 0
        now_ms = self._clock.now_ms
        store = hal.Store(config["state_dir"])
        counter = Counter(store)
        self._state_dir = config["state_dir"]
        self._trial = self._slots = self._updates = self._time_sync = self._certification = None
        self._flash = hal.open_flash() if hasattr(hal, "open_flash") else None
        image = None
        if self._flash is not None:
            image = self._find_image(slot, counter.first)
        self._inputs = hal.Inputs()
        self._buttons = hal.Buttons(self._inputs, config.get("buttons"))
        self._watchdog = hal.Watchdog(config.get("watchdog"))
        files = hal.Files(config["state_dir"] + "/outbox")
        self.outbox = Outbox(files, config["outbox_kb"] * 1024)
        self.event_queue = EventQueue(files, now_ms)
        self.request = LatestFrame(_REQUEST_BYTES)
        if self._pending():
            log("outbox: %d frames pending from the previous boot" % self._pending())
        channel = frame.Channel(config["key"], config["device"].encode(), frame.UPLINK, config["key_epoch"])
        stored = (counter, self.outbox, self.event_queue)
        self.reporter = Reporter(channel, *stored, config, hal.battery, DeviceClock())
        self._connect(config, store)
        play_tone = self._texts = self._geofences = self._self_test = None
        self.ptt = self._ptt_status = self.camera = self.recording = self.live_view = None
        if config.get("audio") is not None or config.get("camera") is not None:
            play_tone = self._build_media(config, store, counter)
        record = None if self.recording is None else self.recording.on_event
        self.sos = Sos(self.reporter, self.event_queue, log, play_tone, self.link.retry_now, record, log)
        self._downlink.add_handlers({m.EVENT_STATE: self.sos.on_event_state, m.FIRMWARE: self._on_firmware})
        self._build_extras(config, store, record)
        uart = hal.Uart(config["gps_uart"], now_ms, log, "gps", self._inputs)
        self._judge = PositionJudge()
        self._receiver = GpsReceiver(self._on_fix, config["date_floor"], uart)
        self._status = self._build_status(config)
        from app.hello import send_hello

        send_hello(self, config, counter.boot, image, hal.runtime())
        for name in ("app.hello", "app.wiring_modem", "app.wiring_network", "compat.umqtt_import"):
            modules.unload(name)
        if image is not None and image.has_open_job:
            self._load_updates()
        log("device: ready, boot %d" % counter.boot)

    def _build_slots(self, slot, first_counter):
        """Build the slots, and the trial of the image that runs from one."""
        from app.wiring_slots import build_slots

        self._slots = build_slots(self._flash, slot)
        if slot is not None:
            from app.wiring_update import build_trial

            self._trial = build_trial(self._slots, first_counter, self._clock.now_ms(), self._log)

    def _find_image(self, slot, first_counter):
        """Build the slots; return the app.wiring_slots.RunningImage.

        Without a trial or an update of the previous boot their modules go at once: they would add to the heap that all
        other parts need.
        """
        from app import wiring_slots

        self._build_slots(slot, first_counter)
        image = wiring_slots.describe(self._slots, self._hal, self._state_dir)
        if self._trial is None and not image.has_open_job:
            self._slots = None
            wiring_slots.unload()
        return image

    def _load_updates(self):
        """Load updates over the air."""
        if self._slots is None:
            self._build_slots(None, 0)
        from app.wiring_firmware import FirmwareUpdates

        now_ms = self._clock.now_ms
        self._updates = FirmwareUpdates(self._state_dir, self._hal, self._slots, self, now_ms, self._log)
        self._downlink.add_handlers({m.FIRMWARE_BLOCK: self._updates.on_block})

    def _connect(self, config, store):
        """Build the way to the hub: network or modem, session and supervisor, and the downlink."""
        hal, log, now_ms = self._hal, self._log, self._clock.now_ms
        key, device, epoch = config["key"], config["device"].encode(), config["key_epoch"]
        self._request_time_at_ms = now_ms() + _TIME_ELSEWHERE_MS
        self._downlink = Downlink(key, device, epoch, Record(store, "down"), log, self.reporter.send, now_ms)
        self._downlink.add_handlers({m.CERTIFY: self._on_certify, m.COMMAND: self._on_command})
        voice = config.get("audio") is not None and not config.get("modem")
        slice_ms = _PTT_SLICE_MS if voice else _SLICE_MS
        self.net = Network(self._clock.now_ms, self.serve, config["timeout_s"] * 1000, slice_ms)
        self.modem = None
        if config.get("modem"):
            from app.wiring_modem import build_modem

            self.modem = build_modem(config["modem"], hal, self._inputs, self.net, self._clock.now_ms, log)
        broker = config["broker"]
        if self.modem is not None and not broker.get("tls"):
            raw = self.modem.tcp
        else:
            from app.wiring_network import open_raw_streams

            raw = open_raw_streams(self.modem, hal, broker.get("tls"), "broker.tls")
        from compat import umqtt_import

        keepalive_s, receive, due_count = config["keepalive_s"], self._downlink.receive, self.event_queue.due_count
        self.session = Session(umqtt_import.load(), self.net, raw, broker, device, keepalive_s, receive, due_count, log)
        self.link = Supervisor(
            self.session,
            (self.event_queue, self.outbox, self.request),
            self.modem,
            Backoff(hal.randbelow),
            self.net,
            log,
            hal.reset,
            self.reporter.clock.set_network,
            self._on_session,
            due_count,
            self._trial.on_published if self._trial is not None else None,
        )

    def _build_media(self, config, store, counter):
        """Build push-to-talk, camera, recording and live view; return a function that plays a tone, or None."""
        from app.wiring_media import Core, build_media

        platform = (config, self._hal, self._log, self._clock.now_ms, self._inputs, store, counter)
        link = (self.reporter, self.event_queue, self.outbox, self.net, self.modem, self.session)
        core = Core(*platform, *link, self._downlink, self.serve)
        media = build_media(core)
        self.ptt, self._ptt_status = media.ptt, media.ptt_status
        self.camera, self._self_test = media.camera, media.self_test
        self.recording, self.live_view = media.recording, media.live_view
        return media.play_tone

    def _build_extras(self, config, store, record):
        if config["status_texts"]:
            from agent.wearer.status_texts import StatusTexts

            texts = config["status_texts"]
            self._texts = StatusTexts(texts, Record(store, "text"), self.reporter, self.link.retry_now)
        if config["geofences"]:
            from agent.tracking.geofence import GeofenceEvents, Geofences

            self._geofences = GeofenceEvents(Geofences(config["geofences"]), self.reporter, record)

    def _build_status(self, config):
        monitored = [part for part in (self._self_test, self.recording, self.ptt) if part is not None]
        return DeviceStatus(
            self.reporter,
            self._receiver,
            self.outbox,
            self.event_queue,
            self.link,
            self.session,
            monitored,
            self.recording,
            config["status_s"],
            not self._hal.FROZEN,
            self._clock.now_ms(),
        )

    def _on_session(self):
        self.event_queue.retry_all()
        self.request.clear()  # it is repeated for this session, with what has arrived since

    # --- main loop --------------------------------------------------------------------------------------------------

    def serve(self):
        """Run every part once. The network calls this, too, while it waits."""
        self._watchdog.feed()
        button = self._buttons.read()
        now_ms = self._clock.now_ms()
        if button is not None:
            self._on_button(button, now_ms)
        wait_ms = self._hal.IDLE_MS
        if self.ptt is not None:
            wait_ms = min(wait_ms, self.ptt.serve(now_ms))
        self._serve_tracking(self._clock.now_ms())
        if self.recording is not None:
            wait_ms = min(wait_ms, self.recording.serve(now_ms))
            if self.live_view is not None and self.recording.is_ready:
                wait_ms = min(wait_ms, self.live_view.serve(now_ms))
        self._wait_ms = wait_ms
        # A collection takes 20 ms of a Cortex-M3, as long as the parts that allocate most: it runs after a short round.
        if self._hal.FROZEN and now_ms >= self._collect_at_ms and self._clock.now_ms() - now_ms < _SHORT_ROUND_MS:
            self._collect_at_ms = now_ms + _COLLECT_MS
            gc.collect()

    def _serve_tracking(self, now_ms):
        self._receiver.read_uart(now_ms)
        if self._receiver.silent:
            self.reporter.on_silence()
        self.reporter.poll(now_ms)
        if self._self_test is not None:
            self._self_test.poll()
        if not self.reporter.clock.source and now_ms >= self._request_time_at_ms and self.session.is_open:
            self._request_time(now_ms)  # most boards get it from the receiver or the network, and load nothing
        self.sos.poll(now_ms)
        self._status.poll(now_ms)
        if self._trial is not None and self._trial.step(self._is_registered(), now_ms):
            self._log("update: no acknowledgement for this image; restarting into the previous one")
            self._hal.reset()
        if self._ptt_status is not None:
            self._ptt_status.poll(now_ms)
        if self._certification is not None:
            self._certification.poll(now_ms)

    def _request_time(self, now_ms):
        if self._time_sync is None:
            from agent.tracking.time_sync import TimeSync

            self._time_sync = TimeSync(self.reporter, self._clock.now_ms)
            self._downlink.add_handlers({m.TIME_SYNC: self._time_sync.on_answer})
        self._time_sync.poll(now_ms)

    def _on_fix(self, fix):
        now_ms = self._clock.now_ms()
        self._judge.on_fix(fix, now_ms)
        self.reporter.on_fix(fix, now_ms)
        if self.recording is not None:
            self.recording.on_fix(fix, now_ms)
        if self._geofences is not None:
            self._geofences.on_fix(fix, now_ms)

    def _on_button(self, button, now_ms):
        if button == b"off":
            self._power_off = True
        elif button == b"sos":
            self.sos.press(now_ms)
        elif button == b"man-down":
            self.sos.man_down(now_ms)
        elif button.startswith(b"status ") and self._texts is not None:
            self._texts.send(button[7:], now_ms)
        elif self.recording is not None and self.recording.on_button(button, now_ms):
            return
        elif self.ptt is not None:
            self.ptt.on_button(button, now_ms)

    def _on_firmware(self, message):
        if self._flash is None:
            from app import wiring_no_slots  # it takes heap, and such a message is rare

            wiring_no_slots.refuse(message, self.reporter, self._log)
            return
        if self._updates is None:
            self._load_updates()
        self._updates.on_firmware(message)

    def _on_command(self, message):
        from app.wiring_commands import build_commands  # with a camera or sound they were built at the start

        build_commands(self._state_dir, self._hal, self.reporter, self._downlink, self._clock.now_ms).execute(message)

    def _on_certify(self, message):
        if self._certification is None:
            from app import wiring_certification as wiring

            parts = (self._state_dir, self._hal, self.reporter, self._downlink, self._clock.now_ms, self._log)
            self._certification = wiring.build_certification(*parts)
        self._certification.on_certify(message)

    def _is_registered(self):
        """Return whether there is coverage; a board with a network stack has it while the session is open."""
        return self.session.is_open if self.modem is None else self.modem.registered

    def _pending(self):
        return len(self.outbox) + len(self.event_queue)

    def run(self):
        """Run until the power button is pressed or an update is installed, then send the pending frames.

        That takes the drain time at most. After an update the board is reset.
        """
        while not self._power_off:
            self.serve()
            if not self.link.step():
                wait_ms = self._wait_ms
                if self.recording is not None and self.link.level == enums.DEVICE_STATUS_LINK_UP:
                    voice = self.ptt is not None and self.ptt.is_busy()
                    urgent = self.event_queue.due_count() > 0
                    wait_ms = min(wait_ms, self.recording.upload(self._clock.now_ms(), voice, urgent))
                if self._updates is not None:
                    wait_ms = min(wait_ms, self._updates.step(self._clock.now_ms()))
                    self._power_off |= self._updates.restart_due
                self._inputs.wait(wait_ms)
        now_ms = self._clock.now_ms()
        if self.ptt is not None:
            self.ptt.close(now_ms)
        if self.live_view is not None:
            self.live_view.close(now_ms)
        if self.recording is not None:
            self.recording.close(now_ms)
        self._receiver.flush()
        self.reporter.flush()
        if self._updates is None or not self._updates.restart_due:
            self._status.send(self._clock.now_ms())
        self._drain()
        self.link.close()
        if self.camera is not None:
            self.camera.close()
        self.outbox.close()
        if self._trial is not None:
            self._trial.stopping()
        self._watchdog.close()
        if self._updates is not None and self._updates.restart_due:
            self._hal.reset()

    def _drain(self):
        self.link.shut_down()
        deadline_ms = self._clock.now_ms() + _DRAIN_MS
        while self._pending() and self._clock.now_ms() < deadline_ms:
            if not self.link.step():
                self.serve()
                self._inputs.wait(self._hal.IDLE_MS)

    def summary(self):
        """Return what this boot did, as a dictionary for JSON."""
        receiver = self._receiver
        gc.collect()
        return {
            "fixes": self.reporter.rows,
            "untimed": self.reporter.untimed,
            "frames": self.reporter.frames,
            "published": self.session.published,
            "left": self._pending(),
            "dropped": self.outbox.dropped,
            "connects": self.session.connects,
            "modem_resets": self.modem.resets if self.modem is not None else 0,
            "sentences": receiver.sentences,
            "bad_checksum": receiver.bad_checksum,
            "skipped_bytes": receiver.skipped_bytes,
            "runtime": self._hal.runtime(),
            "heap_used": gc.mem_alloc() if hasattr(gc, "mem_alloc") else None,
            "board": self._hal.board_counters(),
            "sos": self.sos.summary(),
            "clips": self.recording.summary() if self.recording is not None else None,
        }
