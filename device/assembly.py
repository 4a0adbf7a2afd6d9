"""The parts of a device, put together."""

import gc

import patrolink_messages as m
from agent.counter import Counter
from agent.link.backoff import Backoff
from agent.link.downlink import Downlink
from agent.link.events import Events
from agent.link.outbox import Outbox
from agent.link.session import Session
from agent.link.supervisor import Supervisor
from agent.patrol import Patrol
from agent.reporter import Reporter
from compat import umqtt_import
from compat.stream import Network
from errors import ConfigError
from patrolink_protocol import frame

FIRMWARE = "0.1.0"
_DRAIN_MS = 10000


class Device:
    """All parts of one running device.

    hal   the platform: module hal.posix, or an object with the same names
    """

    def __init__(self, config, hal, log):
        self._hal = hal
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
        self.events = Events(files, now_ms)
        if len(self.outbox) + len(self.events):
            log("outbox: %d frames wait from before" % (len(self.outbox) + len(self.events)))
        self.downlink = Downlink(config["key"], device, config["key_epoch"], store, self.events, log)
        self.net = Network(now_ms, self._serve, None, config["timeout_s"] * 1000)
        self.modem = self.radio = self.camera = self.commands = self._texts = None
        if config.get("modem"):
            import extras

            self.modem = extras.modem(self, config["modem"], hal, log)
        self.net.raw = self._raw(config)
        self.session = Session(
            umqtt_import.load(), self.net, config["broker"], device, config["keepalive_s"], self.downlink.take, log
        )
        self.link = Supervisor(
            self.session, (self.events, self.outbox), self.modem, Backoff(hal.randbelow), self.net, log, hal.reset
        )
        channel = frame.Channel(config["key"], device, frame.UPLINK, config["key_epoch"])
        self.reporter = Reporter(channel, counter, self.outbox, self.events, config, hal.battery)
        self.link.on_clock = self._take_time
        self.link.on_session = self.events.again
        self.link.urgent = self.events.unsent
        if config.get("audio") is not None or config.get("camera") is not None:
            import extras

            self.commands = extras.commands(self, config, hal)
        if config.get("audio") is not None:
            self.radio = extras.radio(self, config, hal, store, counter, log)
        self._wait_ms = hal.IDLE_MS
        if config["status_texts"]:
            import extras

            self._texts = extras.Texts(self, config["status_texts"], store)
        uart = hal.Uart(config["gps_uart"], now_ms, log, "gps", self.inputs)
        if config.get("camera") is not None:
            self.camera = extras.camera(self, config["camera"], hal, log)
        self.patrol = Patrol(
            uart, self.camera, self.reporter, self.outbox, self.events, self.link, self.session, now_ms, config
        )
        self.patrol.radio = self.radio
        self._hello(counter.boot, config)
        log("device: ready, boot %d" % counter.boot)

    def _raw(self, config):
        """What streams are made of: sockets of the modem's or of the board's, in TLS when the broker wants it."""
        if self.modem:
            raw = self.modem.tcp
        else:
            from compat.netsock import TcpSocket as raw
        options = config["broker"].get("tls")
        if not options:
            return raw
        from compat import tls

        try:
            context = tls.context(options)
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
                "profiles": 1 | (2 if self.radio else 0),  # Rice-coded batches, push-to-talk
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

    def _serve(self):
        """What has to go on while the link waits."""
        self.watchdog.feed()
        pressed = self.buttons.read()
        if pressed == b"off":
            self._off = True
        elif pressed == b"sos":
            self.patrol.sos()
        elif pressed is not None and pressed.startswith(b"status ") and self._texts is not None:
            self._texts.say(pressed[7:])
        elif pressed is not None and self.radio is not None:
            self.radio.button(pressed, self.now_ms())
        if self.radio is not None:
            self._wait_ms = min(self.radio.serve(self.now_ms()), self._hal.IDLE_MS)
        self.patrol.serve()

    def run(self):
        """Patrol until the power button, then hand over what is left within the drain time."""
        while not self._off:
            self._serve()
            if not self.link.step():
                self.inputs.wait(self._wait_ms)
        if self.radio is not None:
            self.radio.close(self.now_ms())
        self.patrol.finish()
        self.link.leaving = True
        deadline = self.now_ms() + _DRAIN_MS
        while len(self.outbox) + len(self.events) and self.now_ms() < deadline:
            if not self.link.step():
                self._serve()
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
            "board": self._hal.counts(),
        }
