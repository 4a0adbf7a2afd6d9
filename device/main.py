"""Boot a board: read its configuration, build the parts, run until the power button.

usage: <runtime> device/main.py CONFIG.json
"""

import gc
import json
import sys

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for room in ("", "/../protocol", "/../protocol/generated", "/../build/device-lib"):
    sys.path.insert(0, HERE + room)

import patrolink_messages as m  # noqa: E402
from agent.counter import Counter, StateLost  # noqa: E402
from agent.link.backoff import Backoff  # noqa: E402
from agent.link.downlink import Downlink  # noqa: E402
from agent.link.events import Events  # noqa: E402
from agent.link.outbox import Outbox  # noqa: E402
from agent.link.session import Session  # noqa: E402
from agent.link.supervisor import Supervisor  # noqa: E402
from agent.patrol import Patrol  # noqa: E402
from agent.reporter import Reporter  # noqa: E402
from compat import umqtt_import  # noqa: E402
from compat.stream import Network  # noqa: E402
from patrolink_protocol import frame  # noqa: E402

FIRMWARE = "0.1.0"
_DRAIN_MS = 10000
DEFAULTS = {
    "batch_fixes": 60,
    "batch_s": 60,
    "status_s": 60,
    "keepalive_s": 60,
    "timeout_s": 10,
    "key_epoch": 0,
    "outbox_kb": 256,
    "date_floor": 0,
    "board": "unix",
}


class ConfigError(Exception):
    """CONFIG.json cannot be used; the text says why and what to mend."""


def load_config(path):
    """Return the checked configuration with defaults filled in."""
    try:
        with open(path) as f:
            given = json.load(f)
    except (OSError, ValueError) as e:
        raise ConfigError("%s: %s; give the path of a JSON configuration" % (path, e))
    for key in ("device", "key", "broker", "gps_uart", "state_dir"):
        if key not in given:
            raise ConfigError("%s: %r is missing" % (path, key))
    config = dict(DEFAULTS)
    config.update(given)
    try:
        config["key"] = frame.check_key(bytes([int(config["key"][i : i + 2], 16) for i in range(0, 64, 2)]))
    except (ValueError, TypeError):
        raise ConfigError("%s: key: 64 hexadecimal digits are needed" % path)
    if config.get("modem") and not ("uart" in config["modem"] and "apn" in config["modem"]):
        raise ConfigError("%s: modem: give its uart and the apn of its SIM" % path)
    return config


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
        self.buttons = hal.Buttons(self.inputs)
        self.watchdog = hal.Watchdog(config.get("watchdog"))
        files = hal.Files(config["state_dir"] + "/outbox")
        self.outbox = Outbox(files, config["outbox_kb"] * 1024)
        self.events = Events(files, now_ms)
        if len(self.outbox) + len(self.events):
            log("outbox: %d frames wait from before" % (len(self.outbox) + len(self.events)))
        self.downlink = Downlink(config["key"], device, config["key_epoch"], store, self.events, log)
        self.net = Network(now_ms, self._serve, None, config["timeout_s"] * 1000)
        self.modem = self._modem(config, log)
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
        uart = hal.Uart(config["gps_uart"], now_ms, log, "gps", self.inputs)
        self.patrol = Patrol(uart, self.reporter, self.outbox, self.events, self.link, self.session, now_ms, config)
        self._hello(counter.boot, config)

    def _modem(self, config, log):
        """The modem, on a board that has one; its code is loaded only there."""
        given = config.get("modem")
        if not given:
            return None
        from agent.modem.driver import Modem

        hal = self._hal
        uart = hal.Uart(given["uart"], self.now_ms, log, "modem", self.inputs)
        reset = hal.Pin(given["reset_pin"]) if given.get("reset_pin") else None
        return Modem(uart, reset, self.net, log, given)

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
                "profiles": 1,  # Rice-coded batches
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
        self.patrol.serve()

    def run(self):
        """Patrol until the power button, then hand over what is left within the drain time."""
        while not self._off:
            self._serve()
            if not self.link.step():
                self.inputs.wait(self._hal.IDLE_MS)
        self.patrol.finish()
        self.link.leaving = True
        deadline = self.now_ms() + _DRAIN_MS
        while len(self.outbox) + len(self.events) and self.now_ms() < deadline:
            if not self.link.step():
                self._serve()
                self.inputs.wait(self._hal.IDLE_MS)
        self.link.close()
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
        }


def main(path):
    """Return the exit code: 0 after the power button, 2 for a bad configuration, 3 for lost state.

    hal.reset ends the process with 5: whatever holds the board starts it anew.
    """
    from hal import posix as hal

    def log(text):
        print(text, file=sys.stderr)

    try:
        device = Device(load_config(path), hal, log)
    except ConfigError as e:
        log("error: %s" % e)
        return 2
    except StateLost as e:
        log("error: %s" % e)
        return 3
    device.run()
    print(json.dumps(device.summary()))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
