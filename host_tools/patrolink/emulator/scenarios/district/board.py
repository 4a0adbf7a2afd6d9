"""One device of a district: the agent in a greenlet on a simulated board, with receiver, network and wearer."""

import random
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_names import NAMES
from patrolink_protocol import decode, frame

from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards import agent_loader
from patrolink.emulator.boards.parallel_hal import ParallelHal
from patrolink.emulator.boards.virtual_camera import CameraHal
from patrolink.emulator.boards.virtual_hal import Line, PowerCut, Reset
from patrolink.emulator.boards.virtual_stack import StackHal, VirtualMicrophone
from patrolink.emulator.network.carrier import Dial, Network, Profile
from patrolink.emulator.peripherals.modem import Modem
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.scenarios.environment import walk
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_platform import VirtualClock

BROKER_HOST, BROKER_PORT = "broker.patrolink.example", 8883
HUB_HOST, UPLOAD_PORT, LIVE_PORT = "hub.patrolink.example", 8081, 5008
CAMERAS = 8  # one of so many devices has a camera
_BOOT_S = 1, 60  # a device without power gets it back within this time
_BOUNCES = 0.2  # part of the power cuts after which the power is cut once more, within the first writes of the boot
_BOUNCE_BYTES = 64
_DIALECTS = ("quectel", "simcom")
_LOG_LINES = 400
_LINK_UP = next(code for code, name in NAMES["device_status", "link"].items() if name == "up")
_SOS_STATES = ("sent", "received", "read", "accepted", "arrived", "resolved", "false alarm")
_SOS_LINE = re.compile(f"sos ([0-9]+) ({'|'.join(_SOS_STATES)})")


def with_cameras_often(devices: list[str]) -> list[str]:
    """Return devices, of which those with a camera are repeated until they are about half of all."""
    cameras = devices[1::CAMERAS]
    return [*devices, *cameras * (len(devices) // max(1, len(cameras)))]


class Board:
    """One device.

    Args:
        number: Number of the device in the district; an odd one has a network stack and sound, an even one an AT modem.
        seed: Seed of the run.
        name: Device id.
        key: Device key.
        site: Name of the site.
        profile: Conditions of its network.
        dial: Opens connections to broker and hub.
        unix_ms: True time.
        fix_s: Seconds between two fixes of the receiver.
        evidence_key: Evidence key of the site; empty: the device has no camera.

    Attributes:
        device: The agent, None without power.
        log: The last lines of its log.
        has_voice: Whether it has sound.
        permits_listening: Whether its configuration permits ambient listening.
        clocks: Where it gets the time of day from: the receiver, and the network behind a modem.
        sos_at_power_on: Part of the boots at which the wearer presses the SOS button at once.
    """

    sos_at_power_on = 0.1
    _booted: Any = None  # the agent, also while it is being built

    def __init__(
        self,
        number: int,
        seed: int,
        name: str,
        key: DeviceKey,
        site: str,
        profile: Profile,
        scheduler: Scheduler,
        dial: Dial,
        monitor: Monitor,
        unix_ms: Callable[[], int],
        fix_s: float,
        evidence_key: bytes,
    ) -> None:
        self.name, self._monitor, self._scheduler = name, monitor, scheduler
        self.random = random.Random(f"{seed} board {number}")
        self._fix_ms = fix_s * 1000
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.network = Network(scheduler, profile, self.random.randrange(1 << 30), dial)
        self.has_voice = number % 2 == 1
        self.permits_listening = number % 4 == 1
        self.device: Any = None
        self.modem: Modem | None = None
        self.hal: ParallelHal
        self._receiver_clock = VirtualClock(scheduler, unix_ms)
        self.clocks = [self._receiver_clock]
        self._ended, self._power_bounces, self._is_microphone_open, self._thinned = False, False, False, 0
        self._program, config = agent_loader.load()
        self.config = {
            **config.DEFAULTS,
            "device": name,
            "key": key.secret,
            "key_epoch": key.epoch,
            "broker": {"host": BROKER_HOST, "port": BROKER_PORT},
            "gps_uart": "gps",
            "state_dir": "state",
        }
        if self.has_voice:
            self.hal = (CameraHal if evidence_key else StackHal)(self.network, f"{seed} {number}", self._on_sensors)
            self.config.update(_voice_config(config, site, self.permits_listening))
            if evidence_key:
                self.config.update(_camera_config(config, evidence_key))
        else:
            self.hal = ParallelHal(scheduler, f"{seed} {number}")
            dialect = _DIALECTS[number // 2 % 2]
            self._network_clock = VirtualClock(scheduler, unix_ms)
            self.clocks.append(self._network_clock)
            modem_seed = self.random.randrange(1 << 30)
            self.modem = Modem(
                scheduler, self.network, dialect, modem_seed, self._from_modem, self._network_clock.unix_ms
            )
            self.hal.pins["reset"] = self.modem.set_reset
            self.config["modem"] = {"uart": "modem", "apn": "cmnet", "reset_pin": "reset"}
            self.hal.lines["modem"] = Line()
            self.hal.lines["modem"].to_peer = self.modem.feed
        self.hal.lines["gps"] = Line()
        self._at = self.random.randrange(len(walk()))  # place on the track
        scheduler.after(self.random.uniform(0, self._fix_ms), self._speak)
        scheduler.after(self.random.uniform(0, 20_000), lambda: self.hal.start(self._run))

    # --- peripherals --------------------------------------------------------------------------------------------------

    def _from_modem(self, data: bytes) -> None:
        self.hal.deliver("modem", data)

    def _speak(self) -> None:
        if not self._ended:
            self._scheduler.after(self._fix_ms, self._speak)
        if self.device is not None:
            epochs = walk()
            self._at = (self._at + 1) % len(epochs)
            self.hal.deliver_now("gps", epochs[self._at].at(self._receiver_clock.unix_ms() // 1000 * 1000))

    def _on_sensors(self) -> None:
        assert isinstance(self.hal, StackHal)
        if self.hal.sensors and not self.hal.indicator:
            self._monitor.violate("indicator", f"a camera or microphone of {self.name} is on, and its indicator off")
        is_open = any(isinstance(sensor, VirtualMicrophone) for sensor in self.hal.sensors)
        if is_open != self._is_microphone_open:
            self._is_microphone_open = is_open
            self._note_microphone(is_open)

    def _note_microphone(self, is_open: bool) -> None:
        consent = self._monitor.consent
        (consent.microphone_opened if is_open else consent.microphone_closed)(self.name)

    def press_to_talk(self, emergencies: float = 0.1) -> None:
        """Press the push-to-talk key, or that of the emergency call, for a short time.

        Args:
            emergencies: Part of the presses that are emergency calls.
        """
        self._note_key()
        self.hal.press(b"emergency" if self.random.random() < emergencies else b"ptt")
        self._scheduler.after(self.random.uniform(500, 3000), lambda: self.hal.press(b"ptt-up"))

    def _note_key(self) -> None:
        self._monitor.consent.key_pressed(self.name)

    # --- power --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            self._boot()

    def _boot(self) -> None:
        """Run from power-on to whatever ends this boot."""
        self.hal.boot()
        if self._power_bounces:
            self._power_bounces = False
            self.hal.flash.cut_after = self.random.randrange(_BOUNCE_BYTES)
        try:
            # It may thin frames, and lose power, before its constructor has ended.
            self._booted = self._program.Device.__new__(self._program.Device)
            self._booted.__init__(self.config, self.hal, self._log_line)
            self.device = self._booted
            self._watch(self.device)
            if self.random.random() < self.sos_at_power_on:
                self._scheduler.after(1000, lambda: self.hal.press(b"sos"))  # before the device knows the time
            self.device.run()
        except PowerCut:
            self._monitor.sums["power_cuts"] += 1
            self._after_power_cut()
        except Reset as e:
            self._monitor.sums["watchdog_resets" if e.why == "watchdog" else "board_resets"] += 1
            self._log_line(f"-- reset: {e.why} --")
            self._end_boot()
        except Exception as e:
            self._monitor.violate("agent", f"{self.name}: {type(e).__name__}: {e}; at {_place(e)}")
            self._after_power_cut()

    def _after_power_cut(self) -> None:
        self._log_line("-- power cut --")
        self._end_boot()
        self._power_bounces = self.random.random() < _BOUNCES
        self.network.forget()
        self.hal.pause(self.random.uniform(*_BOOT_S) * 1000)
        if self.modem is not None:
            self.modem.start()

    @property
    def thinned(self) -> int:
        """Number of frames that the outbox has given up to keep newer ones, over all boots."""
        outbox = getattr(self._booted, "outbox", None)
        return self._thinned if outbox is None else self._thinned + int(outbox.thinned)

    def _end_boot(self) -> None:
        if self.thinned > self._thinned:
            self._monitor.log(self.name, f"frames thinned in this boot: {self.thinned - self._thinned}")
        self._thinned = self.thinned
        if self.device is not None:
            self._note_reset()
        self.device = self._booted = None
        if isinstance(self.hal, StackHal):
            self.hal.stop_sensors()

    def _note_reset(self) -> None:
        self._monitor.sos.memory_lost(self.name)

    def cut_power(self) -> None:
        """Cut the power, now or during a write within the next seconds."""
        if self.device is not None and self.random.random() < 0.5:
            self.hal.flash.cut_after = self.random.randrange(300)
            self._scheduler.after(5000, self._cut_late)
        else:
            self.hal.end(PowerCut())

    def _cut_late(self) -> None:
        if self.hal.flash.cut_after is not None:
            self.hal.end(PowerCut())

    @property
    def is_drained(self) -> bool:
        """Whether the device has nothing left to send, and no event that is open."""
        return self.device is not None and not len(self.device.outbox) and not self.device.event_queue._entries

    def begin_key_epoch(self) -> None:
        """Provision the device with its next key epoch, and restart it. What it has sealed before must be sent."""
        self.config["key_epoch"] += 1
        self._monitor.identities.epoch_begun(self.name, 1 + max(self._monitor.recorded.get(self.name, ()), default=-1))
        self.hal.end(Reset("a new key epoch"))

    def end(self) -> None:
        """Switch the board off for good."""
        self._ended = True
        self.hal.press(b"off")

    def _log_line(self, text: str) -> None:
        self.log.append(f"{self._scheduler.now / 1000:10.3f} {text}")
        self._note_log(text)
        self._show(text)

    def _note_log(self, text: str) -> None:
        self._monitor.log(self.name, f"| {text}")

    def _show(self, text: str) -> None:
        """Report what the wearer is shown: the log is the display of this board."""
        shown = _SOS_LINE.match(text)
        if shown:
            self._monitor.sos.shown_to_wearer(self.name, int(shown[1]), _SOS_STATES.index(shown[2]))

    # --- observation --------------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether the agent has a session with the broker."""
        return self.device is not None and self.device.link.level == _LINK_UP

    def _watch(self, device: Any) -> None:
        """Observe what the device's storage accepts, and on which frames the device acts, from now on."""
        put, keep, receive = device.outbox.put, device.event_queue.put, device.session._on_frame
        channel = frame.Channel(self.config["key"], self.name.encode(), frame.UPLINK, self.config["key_epoch"])

        def put_recorded(data: memoryview) -> bool:
            accepted: bool = put(data)
            if accepted:
                kind, _, counter = frame.parse_header(data)
                self._monitor.frame_recorded(self.name, counter)
                if kind == m.CLIP_MANIFEST:
                    self._clip_announced(decode.decode(kind, channel.read(data)[0]))
            else:
                self._monitor.sums["frames_refused_by_storage"] += 1
            return accepted

        def keep_recorded(data: memoryview, event_id: int) -> bool:
            accepted: bool = keep(data, event_id)
            if accepted:
                is_stored = isinstance(device.event_queue._entries[-1].source, str)
                if is_stored:
                    self._monitor.frame_recorded(self.name, event_id)
                self._monitor.sos.raised(self.name, event_id, is_stored)
            return accepted

        def receive_observed(data: bytes) -> None:
            received = device._downlink.received
            receive(data)
            if device._downlink.received > received:
                self._monitor.frame_acted_on(self.name, bytes(data))

        device.outbox.put, device.event_queue.put = put_recorded, keep_recorded
        device.session._on_frame = receive_observed

    def _clip_announced(self, manifest: dict[str, Any]) -> None:
        self._monitor.cameras.sealed(self.name, manifest["clip_id"])
        if manifest["trigger"] == enums.CLIP_MANIFEST_TRIGGER_DISPATCHER:
            self._monitor.consent.recorded(self.name, manifest["clip_id"])


def _voice_config(defaults: Any, site: str, listen_in: bool) -> dict[str, Any]:
    """Return the configuration of a board with sound."""
    audio = {"mic": "mic", "speaker": "speaker", "indicator": "indicator"}
    return {"audio": audio, "ptt": {**defaults.PTT_DEFAULTS, "frame_ms": 60, "site": site, "listen_in": listen_in}}


def _camera_config(defaults: Any, evidence_key: bytes) -> dict[str, Any]:
    """Return the configuration of a board that records clips of about 10 s and uploads them."""
    upload = {**defaults.UPLOAD_DEFAULTS, "host": HUB_HOST, "port": UPLOAD_PORT}
    clips = {"dir": "clips", "evidence_key": evidence_key, "sound": "never", "upload": upload}
    times = {"pre_s": 5, "post_s": 5, "segment_s": 5}
    return {
        "camera": {"source": "camera", "indicator": "indicator", "kind": "vc0706"},
        "clips": {**defaults.CLIPS_DEFAULTS, **times, **clips},
    }


def _place(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else "?"
