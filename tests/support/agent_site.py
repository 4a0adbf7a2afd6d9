"""A site whose devices run the agent, in the test's process on virtual time.

The agents, the hub and the protocol are the real code; networks, modems, headsets and cameras are modelled. Nothing
waits in real time: what a listener hears or a dispatcher sees depends on the network alone, and a seed repeats a run.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from patrolink.core import tracks
from patrolink.core.capture import Record
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards import agent_loader
from patrolink.emulator.boards.virtual_camera import Film
from patrolink.emulator.boards.virtual_hal import Line
from patrolink.emulator.network.carrier import Connection, Network, Profile, Remote
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.modem import Modem

from tests.support.paths import GOLDEN
from tests.support.simulated_site import MEDIA_PORT, UPLOAD_PORT, SimulatedSite, site_text
from tests.support.site_file import GROUP_TEMPLATE, keys_of
from tests.support.virtual_board import VirtualBoard

QUIET = Profile(100, 0, 0.0, 10_000, 30_000)  # without loss and jitter
_RTCP = range(192, 224)  # packet types (RFC 5761, 4)
_HOST, _BROKER_PORT = "127.0.0.1", 1883
_MODEM_BOOT_S = 7
_WALK = GOLDEN / "tracks" / "walk-1hz.csv"


@dataclass(frozen=True)
class Kit:
    """What a device consists of.

    Args:
        profile: Conditions of its network.
        config: Keys of its configuration; those of `ptt` and `clips` complete the defaults.
        modem: Dialect of its AT modem; "" for a network stack and a headset.
        film: What its camera plays; None: no camera.
    """

    profile: Profile = QUIET
    config: dict[str, Any] = field(default_factory=dict)
    modem: str = ""
    film: Film | None = None


class Agent:
    """A device.

    Attributes:
        device: The agent's Device.
        board: Its board.
        network: Its network.
        log: Lines of its log, each with the virtual time in ms.
    """

    def __init__(self, site: "AgentSite", name: str, kit: Kit) -> None:
        self._site, self.name = site, name
        self.log: list[tuple[float, str]] = []
        seed = int.from_bytes(hashlib.sha256(f"{site.seed} {name}".encode()).digest()[:4], "big")
        self.network = Network(site.scheduler, kit.profile, seed, site.dial)
        self.board = VirtualBoard(self.network, f"{site.seed} {name}", kit.film)
        self._program, config = agent_loader.load()
        self._config = self._configuration(config, kit)
        self.modem: Modem | None = None
        if kit.modem:
            self.modem = Modem(site.scheduler, self.network, kit.modem, seed, self._from_modem, site.unix_ms)
            self.board.lines["modem"] = Line()
            self.board.lines["modem"].to_peer = self.modem.feed
            self.board.pins["reset"] = self.modem.set_reset
            site.run_for(_MODEM_BOOT_S)
        self._has_sky = False
        self.power_on()

    def _configuration(self, defaults: Any, kit: Kit) -> dict[str, Any]:
        config = {
            **defaults.DEFAULTS,
            "device": self.name,
            "key": keys_of([self.name])[self.name],
            "broker": {"host": _HOST, "port": _BROKER_PORT},
            "gps_uart": "gps",
            "state_dir": "state",
            **kit.config,
        }
        if kit.modem:
            config["modem"] = {"uart": "modem", "apn": "cmnet", "reset_pin": "reset"}
        else:
            config["audio"] = {"mic": "mic", "speaker": "speaker", "indicator": "indicator"}
            config["ptt"] = {**defaults.PTT_DEFAULTS, "site": "test.example", **kit.config.get("ptt", {})}
        if kit.film is not None:
            config["camera"] = {"source": "camera", "indicator": "indicator", "kind": "vc0706"}
            upload = {"host": _HOST, "port": UPLOAD_PORT, "kbps": 2000, "path": "/clips", "tls": {}}
            clips = {"dir": "clips", "sound": "never", "upload": upload, **kit.config.get("clips", {})}
            config["clips"] = {**defaults.CLIPS_DEFAULTS, **clips}
        return config

    def _from_modem(self, data: bytes) -> None:
        self.board.deliver("modem", data)

    # --- power --------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start the agent, with the storage of the previous boot."""
        self.board.boot()
        self.has_ended = False
        self.device = self._program.Device(self._config, self.board, self._log_line)
        self.board.start(self._run)

    def _run(self) -> None:
        self.device.run()
        self.has_ended = True

    def power_off(self) -> dict[str, Any]:
        """Press the power button; return what the boot did."""
        self.press("off")
        self._site.run_until(lambda: self.has_ended, self.text)
        return dict(self.device.summary())

    # --- wearer -------------------------------------------------------------------------------------------------------

    def press(self, button: str) -> None:
        """Press a button."""
        self.board.press(button.encode())

    def see_sky(self) -> None:
        """Give the receiver positions and the time from now on, once a second."""
        if not self._has_sky:
            self._has_sky = True
            self._speak(tracks.read(_WALK), 0)

    def _speak(self, points: list[tracks.TrackPoint], i: int) -> None:
        point = replace(points[i % len(points)], time_ms=self._site.unix_ms() // 1000 * 1000)
        if not self.has_ended:
            self.board.deliver("gps", nmea.epoch(point))
        self._site.scheduler.after(1000, lambda: self._speak(points, i + 1))

    @property
    def is_lit(self) -> bool:
        """Whether the indicator of microphone or camera is on."""
        return bool(self.board.indicator)

    # --- observation --------------------------------------------------------------------------------------------------

    def _log_line(self, text: str) -> None:
        self.log.append((self._site.scheduler.now, text))

    def text(self) -> str:
        """Return the log."""
        return "\n".join(f"{at_ms:10.0f} {line}" for at_ms, line in self.log)

    def file(self, name: str) -> bytes:
        """Return a file of the device's storage."""
        return bytes(self.board.flash.files[name])


class AgentSite(SimulatedSite):
    """A hub and devices that run the agent.

    Args:
        folder: Empty folder of the hub.
        kits: Devices by id; they are in group 1 if they have a network stack.
        seed: Seed of networks and boards.
        groups: Further groups and dispatchers.
        top: Lines for the top level of the site file.
        hub: Lines for `[[hub]]`.

    Attributes:
        agents: The devices by id.
        rows: Decoded messages of all devices.
        voice_packets: Voice packets that were sent to the hub.
    """

    def __init__(
        self, folder: Path, kits: dict[str, Kit], seed: int = 1, groups: str = "", top: str = "", hub: str = ""
    ) -> None:
        self.seed = seed
        self.agents: dict[str, Agent] = {}
        self.rows: list[dict[str, Any]] = []
        self.voice_packets = 0
        self._decoder = Decoder({name: DeviceKey(key) for name, key in keys_of(kits).items()})
        voiced = [name for name, kit in kits.items() if not kit.modem]
        if voiced:
            groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(voiced), more="") + groups
        super().__init__(folder, site_text(groups, top, hub), kits)
        for name, kit in kits.items():
            self.agents[name] = Agent(self, name, kit)
        for name in voiced:
            agent = self.agents[name]
            self.run_until(lambda text=agent.text: text().count("ptt: group") == 2, agent.text)

    def dial(self, kind: str, host: str, port: int, connection: Connection) -> Remote | None:
        """Open a connection of a device."""
        if kind == "UDP":
            return self.udp.dial(connection, host, port)
        if port == _BROKER_PORT:
            return self.broker.dial(kind, host, port, connection)
        return self.tcp.dial(connection, port, "10.0.0.1")

    def on_uplink(self, device: str, payload: bytes) -> None:
        """Decode a frame of a device."""
        self.rows += self._decoder.rows(Record(self.unix_ms(), device, payload))

    def on_datagram(self, source: tuple[str, int], target: tuple[str, int], data: bytes) -> None:
        """Count a voice packet to the hub."""
        self.voice_packets += target[1] == MEDIA_PORT and data[1] not in _RTCP

    @property
    def pair(self) -> list[Agent]:
        """The first two devices."""
        return list(self.agents.values())[:2]

    def logs(self) -> str:
        """Return the logs of all devices."""
        return "\n".join(f"--- {agent.name}\n{agent.text()}" for agent in self.agents.values())

    def wait_for_row(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first decoded message, received so far or later, that fulfils the condition."""
        row: dict[str, Any] = self.run_until(
            lambda: next((row for row in self.rows if condition(row)), None), self.logs
        )
        return row

    def run_ms(self, ms: float) -> None:
        """Let time pass."""
        self.scheduler.run_until(self.scheduler.now + ms)
