"""Boot a board: read its configuration, build the parts, run until the power button.

usage: <runtime> device/main.py CONFIG.json
"""

import gc
import json
import sys
import time

HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for room in ("", "/../protocol", "/../protocol/generated", "/../build/device-lib"):
    sys.path.insert(0, HERE + room)

import patrolink_messages as m  # noqa: E402
from agent.counter import Counter, StateLost  # noqa: E402
from agent.link.backoff import Backoff  # noqa: E402
from agent.link.outbox import Outbox  # noqa: E402
from agent.link.session import UP, Session  # noqa: E402
from agent.patrol import Patrol  # noqa: E402
from agent.reporter import Reporter  # noqa: E402
from compat import umqtt_import  # noqa: E402
from compat.netsock import Network  # noqa: E402
from hal import posix as hal  # noqa: E402
from patrolink_protocol import frame  # noqa: E402

FIRMWARE = "0.1.0"
_DRAIN_MS = 10000
_DEFAULTS = {
    "batch_fixes": 60,
    "batch_s": 60,
    "status_s": 60,
    "keepalive_s": 60,
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
    config = dict(_DEFAULTS)
    config.update(given)
    try:
        config["key"] = frame.check_key(bytes([int(config["key"][i : i + 2], 16) for i in range(0, 64, 2)]))
    except (ValueError, TypeError):
        raise ConfigError("%s: key: 64 hexadecimal digits are needed" % path)
    return config


class Device:
    """All parts of one running device."""

    def __init__(self, config, log):
        self.clock = hal.Clock()
        now_ms = self.clock.now_ms
        device = config["device"].encode()
        counter = Counter(hal.Store(config["state_dir"]))
        self.net = Network(now_ms, self._serve)
        backoff = Backoff(hal.randbelow)
        self.session = Session(
            umqtt_import.load(), self.net, config["broker"], device, backoff, config["keepalive_s"], log
        )
        self.outbox = Outbox(hal.Files(config["state_dir"] + "/outbox"), config["outbox_kb"] * 1024)
        channel = frame.Channel(config["key"], device, frame.UPLINK, config["key_epoch"])
        self.reporter = Reporter(channel, counter, self.outbox, config, hal.battery)
        uart = hal.Uart(config["gps_uart"], now_ms, log)
        self.patrol = Patrol(uart, self.reporter, self.outbox, self.session, now_ms, config)
        self.button = hal.PowerButton()
        heap = (gc.mem_free() + gc.mem_alloc()) >> 10 if hasattr(gc, "mem_free") else 0
        self.reporter.send(
            m.HELLO,
            {
                "boot": counter.boot,
                "schema_hash": m.SCHEMA_HASH,
                "minor": m.MINOR,
                "profiles": 1,  # Rice-coded batches
                "heap_kb": heap,
                "date_floor": config["date_floor"],
                "batch_fixes": config["batch_fixes"],
                "board": config["board"].encode(),
                "firmware": FIRMWARE.encode(),
                "runtime": hal.runtime().encode(),
            },
        )

    def _serve(self):
        self.patrol.serve()

    def run(self):
        """Patrol until the power button, then hand over what is left within the drain time."""
        while not self.button.pressed():
            self.patrol.serve()
            self.session.step(self.outbox)
            if not len(self.outbox) or self.session.state != UP:
                time.sleep(0.005)
        self.patrol.serve()
        self.patrol.finish()
        deadline = self.clock.now_ms() + _DRAIN_MS
        while len(self.outbox) and self.clock.now_ms() < deadline:
            self.session.step(self.outbox)
            if self.session.state != UP:
                time.sleep(0.005)
        self.session.close()
        self.outbox.close()

    def summary(self):
        """What this boot did, for whoever holds the console."""
        gps = self.patrol.gps
        gc.collect()
        return {
            "fixes": self.reporter.rows,
            "untimed": self.reporter.untimed,
            "frames": self.reporter.frames,
            "published": self.session.published,
            "left": len(self.outbox),
            "dropped": self.outbox.dropped,
            "connects": self.session.connects,
            "sentences": gps.sentences,
            "bad_checksum": gps.bad_checksum,
            "skipped_bytes": gps.skipped_bytes,
            "runtime": hal.runtime(),
            "heap_used": gc.mem_alloc() if hasattr(gc, "mem_alloc") else None,
        }


def main(path):
    """Return the exit code: 0 after the power button, 2 for a bad configuration, 3 for lost state."""

    def log(text):
        print(text, file=sys.stderr)

    try:
        device = Device(load_config(path), log)
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
