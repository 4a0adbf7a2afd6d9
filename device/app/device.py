"""The parts of a device, put together."""

import gc

import patrolink_messages as m
from agent.link.backoff import Backoff
from agent.link.downlink import Downlink
from agent.link.event_queue import EventQueue
from agent.link.outbox import Outbox
from agent.link.session import Session
from agent.link.supervisor import UP, Supervisor
from agent.tracking.counter import Counter
from agent.tracking.patrol import Patrol
from agent.tracking.reporter import Reporter
from app.errors import ConfigError
from compat import umqtt_import
from compat.stream import Network
from patrolink_protocol import frame

FIRMWARE = "0.1.0"
_DRAIN_MS = 10000
_SWEEP_MS = 1000
_LITTLE_MS = 5
SOS, MAN_DOWN = 1, 2  # clip_manifest.trigger


class Device:
    """All parts of one running device.

    hal   the platform: module hal.posix.platform, or an object with the same names
    """

    def __init__(self, config, hal, log):
        self._hal = hal
        self.log = log
        self._off = False
        self.clock = hal.Clock()
        self.now_ms = now_ms = self.clock.now_ms
        device = config["device"].encode()
        store = hal.Store(config["state_dir"])
        counter = Counter(store)
        self.inputs = hal.Inputs()
        self.buttons = hal.Buttons(self.inputs, config.get("buttons"))
        self.watchdog = hal.Watchdog(config.get("watchdog"))
        files = hal.Files(config["state_dir"] + "/outbox")
        self.outbox = Outbox(files, config["outbox_kb"] * 1024)
        self.events = EventQueue(files, now_ms)
        if len(self.outbox) + len(self.events):
            log("outbox: %d frames wait from before" % (len(self.outbox) + len(self.events)))
        self.downlink = Downlink(config["key"], device, config["key_epoch"], store, self.events, log)
        self.net = Network(now_ms, self.serve, None, config["timeout_s"] * 1000)
        self.modem = self.radio = self.camera = self.evidence = self.commands = self._texts = None
        if config.get("modem"):
            from app import wiring_optional

            self.modem = wiring_optional.modem(self, config["modem"], hal, log)
        self.net.raw = self.raw(config["broker"].get("tls"))
        self.session = Session(
            umqtt_import.load(), self.net, config["broker"], device, config["keepalive_s"], self.downlink.take, log
        )
        self.link = Supervisor(
            self.session, (self.events, self.outbox), self.modem, Backoff(hal.randbelow), self.net, log, hal.reset
        )
        channel = frame.Channel(config["key"], device, frame.UPLINK, config["key_epoch"])
        self.reporter = Reporter(channel, counter, self.outbox, self.events, config, hal.battery)
        self.link.on_clock = self._take_time
        self.link.on_session = self.events.retry_all
        self.link.urgent = self.events.due_count
        if config.get("audio") is not None or config.get("camera") is not None:
            from app import wiring_optional

            self.commands = wiring_optional.commands(self, config, hal)
        ears = wiring_optional.ears(self, config, hal, log) if config.get("audio") is not None else None
        if ears is not None:
            self.radio = wiring_optional.radio(self, config, hal, store, counter, ears, log)
        self._wait_ms = hal.IDLE_MS
        self._sweep_ms = 0
        if config["status_texts"]:
            from app import wiring_optional

            self._texts = wiring_optional.Texts(self, config["status_texts"], store)
        uart = hal.Uart(config["gps_uart"], now_ms, log, "gps", self.inputs)
        if config.get("camera") is not None:
            self.camera = wiring_optional.camera(self, config["camera"], hal, log)
        if config.get("clips") is not None:
            self.evidence = wiring_optional.evidence(self, config, hal, store, counter.boot, ears)
        unproven = None if self.evidence else self.camera
        self.patrol = Patrol(
            uart, unproven, self.reporter, self.outbox, self.events, self.link, self.session, now_ms, config
        )
        self.patrol.radio, self.patrol.evidence = self.radio, self.evidence
        if self.evidence is not None or config["geofences"]:
            from app import wiring_optional

            self.patrol.on_fix = wiring_optional.Fixes(self, config["geofences"]).take
        self._hello(counter.boot, config)
        log("device: ready, boot %d" % counter.boot)

    def raw(self, tls_options, where="broker.tls"):
        """What streams are made of: sockets of the modem's or of the board's, in TLS where that is wanted."""
        if self.modem:
            raw = self.modem.tcp
        else:
            from compat.netsock import TcpSocket as raw
        if not tls_options:
            return raw
        from compat import tls

        try:
            context = tls.context(tls_options, where)
        except ValueError as e:
            raise ConfigError(str(e))
        return lambda net: tls.TlsSocket(net, raw(net), context)

    def _hello(self, boot, config):
        heap = (gc.mem_free() + gc.mem_alloc()) >> 10 if hasattr(gc, "mem_free") else 0
        self.reporter.send(
            m.HELLO,
            {
                "boot": boot,
                "schema_hash": m.SCHEMA_HASH,
                "minor": m.MINOR,
                # Rice-coded batches, push-to-talk, video, live view
                "profiles": 1 | (2 if self.radio else 0) | (self.evidence.profiles if self.evidence else 0),
                "heap_kb": heap,
                "date_floor": config["date_floor"],
                "batch_fixes": config["batch_fixes"],
                "board": config["board"].encode(),
                "firmware": FIRMWARE.encode(),
                "runtime": self._hal.runtime().encode(),
            },
        )

    def _take_time(self, day, ms):
        self.reporter.set_time(day, ms, self.now_ms())

    def serve(self):
        """What has to go on while the link waits."""
        self.watchdog.feed()
        pressed = self.buttons.read()
        if pressed is not None:
            self._press(pressed)
        now = self.now_ms()
        wait_ms = self._hal.IDLE_MS
        if self.radio is not None:
            wait_ms = min(wait_ms, self.radio.serve(now))
        self.patrol.serve()
        if self.evidence is not None:
            wait_ms = min(wait_ms, self.evidence.serve(now))
        self._wait_ms = wait_ms
        # Takes 20 ms of a Cortex-M3, as long as what may need the room: so it comes when a round had little to do.
        if self._hal.FROZEN and now >= self._sweep_ms and self.now_ms() - now < _LITTLE_MS:
            self._sweep_ms = now + _SWEEP_MS
            gc.collect()

    def _press(self, button):
        evidence = self.evidence
        if button == b"off":
            self._off = True
        elif button == b"sos" or button == b"man-down":
            event = self.patrol.sos() if button == b"sos" else self.patrol.man_down()
            if evidence is not None:
                evidence.recording.on_event(SOS if button == b"sos" else MAN_DOWN, event)
        elif button.startswith(b"status ") and self._texts is not None:
            self._texts.say(button[7:])
        elif evidence is not None and evidence.recording.on_button(button, self.now_ms()):
            return
        elif self.radio is not None:
            self.radio.on_button(button, self.now_ms())

    def run(self):
        """Patrol until the power button, then hand over what is left within the drain time."""
        while not self._off:
            self.serve()
            if not self.link.step():
                wait_ms = self._wait_ms
                if self.evidence is not None and self.link.level == UP:
                    wait_ms = min(wait_ms, self.evidence.upload(self.now_ms()))
                self.inputs.wait(wait_ms)
        if self.radio is not None:
            self.radio.close(self.now_ms())
        if self.evidence is not None:
            self.evidence.close(self.now_ms())
        self.patrol.finish()
        self.link.leaving = True
        deadline = self.now_ms() + _DRAIN_MS
        while len(self.outbox) + len(self.events) and self.now_ms() < deadline:
            if not self.link.step():
                self.serve()
                self.inputs.wait(self._hal.IDLE_MS)
        self.link.close()
        if self.camera is not None:
            self.camera.close()
        self.outbox.close()
        self.watchdog.close()

    def summary(self):
        """What this boot did, for whoever holds the console."""
        gps = self.patrol.gps
        gc.collect()
        return {
            "fixes": self.reporter.rows,
            "untimed": self.reporter.untimed,
            "frames": self.reporter.frames,
            "published": self.session.published,
            "left": len(self.outbox) + len(self.events),
            "dropped": self.outbox.dropped,
            "connects": self.session.connects,
            "modem_resets": self.modem.resets if self.modem else 0,
            "sentences": gps.sentences,
            "bad_checksum": gps.bad_checksum,
            "skipped_bytes": gps.skipped_bytes,
            "runtime": self._hal.runtime(),
            "heap_used": gc.mem_alloc() if hasattr(gc, "mem_alloc") else None,
            "board": self._hal.board_counters(),
            "clips": self.evidence.recording.summary() if self.evidence is not None else None,
        }
