"""Site whose devices must keep knowing their groups and keys: real device code and real hub code, in virtual time.

Modelled are the network, the broker (it loses what a device without a session should get, as with clean sessions) and
everything that goes wrong: lost datagrams and messages, restarts of hub and devices, new addresses, changes of groups.

python tests/simulation/terms_site.py [SEEDS [FIRST]]     default: 300 seeds from 1; exit code 1 if one fails
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent.parent
for _folder in ("", "device", "protocol", "tests/unit"):
    sys.path.insert(0, str(ROOT / _folder))

import patrolink_messages  # noqa: E402
from agent.ptt.status import PttStatus  # noqa: E402
from patrolink.emulator.scheduler import Scheduler  # noqa: E402
from patrolink.hub.config import HubContext  # noqa: E402
from patrolink.hub.infra.metrics import Metrics  # noqa: E402
from patrolink.hub.voice.bursts import BurstTable, RelayedBurst  # noqa: E402
from patrolink.hub.voice.control_receiver import ControlReceiver  # noqa: E402
from patrolink.hub.voice.floor_sender import FloorSender  # noqa: E402
from patrolink.hub.voice.floor_server import FloorServer  # noqa: E402
from patrolink.hub.voice.floor_types import FloorEventKind  # noqa: E402
from patrolink.hub.voice.group_registry import GroupRegistry  # noqa: E402
from patrolink.hub.voice.group_terms import TURN_S, GroupTerms  # noqa: E402
from patrolink.hub.voice.presence import DevicePresence  # noqa: E402
from patrolink.hub.voice.relay import VoiceRelay  # noqa: E402
from patrolink_protocol import codec, decode, group_report  # noqa: E402
from ptt_harness import HUB, KEY, PttHarness  # noqa: E402

BUSY_MS = 240_000
BOUND_MS = 70_000  # PTT.md, "Reports"
_STEP_MS = 100
_SITE = """name = "site"
keys = "keys.toml"
broker = "mqtt://127.0.0.1"
[[hub]]
host = "hub"
floor_port = 5000
media_port = 5002
"""


class InvariantError(AssertionError):
    """A device does not have its groups and keys."""


class Vest(PttHarness):
    """A device: its push-to-talk client, its session with the broker, and its address in the network."""

    def __init__(self, site: "TermsSite", name: str, previous: "Vest | None" = None) -> None:
        store = previous.store if previous else None
        super().__init__(store=store, groups=8)
        self.site, self.name = site, name
        self.now_ms = int(site.scheduler.now)
        self.counter = previous.counter if previous else 0
        self.network_address = previous.network_address if previous else 0
        self.session = SimpleNamespace(is_open=False, connects=0)
        self.status = PttStatus(self.client, self.session, self.send_message, 60)

    def on_datagram(self, port: int, data: bytes) -> None:
        self.site.deliver(lambda: self.site.hub and self.site.hub.receive(port, self.address(port), data), self)

    def address(self, port: int) -> tuple[str, int]:
        return f"{self.name}.{self.network_address}", port

    def send_message(self, kind: int, values: dict[str, Any]) -> None:
        if self.session.is_open:
            self.site.after_delay(lambda: self.site.frame_received(self.name, kind, wire(kind, values)))

    def open_session(self) -> None:
        self.session.is_open = True
        self.session.connects += 1
        if self.session.connects == 1:
            self.send_message(patrolink_messages.HELLO, {})

    def receive_terms(self, values: dict[str, Any]) -> None:
        self.client.on_group_message(decode.decode(patrolink_messages.PTT_GROUP, values), self.now_ms)


def wire(kind: int, values: dict[str, Any]) -> bytes:
    """Return the body of a message; that of a hello does not matter here."""
    if kind == patrolink_messages.HELLO:
        return b""
    body = bytearray(1024)
    return bytes(body[: codec.encode_into(kind, values, body, 0)])


class _Clock:
    """The time of a scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic_ms(self) -> int:
        return int(self._scheduler.now)

    def unix_ms(self) -> int:
        return 1_800_000_000_000 + self.monotonic_ms()

    def unix_ns(self) -> int:
        return 1_000_000 * self.unix_ms()


class _NoRecorder:
    def voice_packet(self, *packet: Any) -> None:
        """Drop a packet."""


T = TypeVar("T")


async def _at_once(job: Callable[[], None]) -> None:
    job()


def completed(change: Coroutine[Any, Any, T]) -> T:
    """Return the result of a change of groups, which waits for nothing on simulated storage."""
    try:
        change.send(None)
    except StopIteration as e:
        return e.value
    raise AssertionError("the change waits")


class SiteHub:
    """The voice part of a hub on simulated sockets. State survives a restart only in its folder."""

    def __init__(self, site: "TermsSite", make_terms: Callable[..., GroupTerms]) -> None:
        self._site, self._context = site, HubContext(site.folder / "site.toml")
        self._clock = clock = _Clock(site.scheduler)
        self.metrics = metrics = Metrics()
        self.clones: list[str] = []
        self.terms = make_terms(self._context.hub, self._context.owns_group, self, clock, metrics)
        self.registry = GroupRegistry(self._context, clock, site.rng.randbytes, (), self.terms.announce, _at_once)
        self.presence = DevicePresence(
            self.registry.devices,
            {},
            site.folder / "addresses.json",
            lambda group: None,
            self.clones.append,
            clock,
            metrics,
        )
        sender = FloorSender(SimpleNamespace(sendto=self._send_floor), self.registry.rtcp_indices, metrics, None)
        self.server = FloorServer(clock, self.registry.memberships, sender, self._on_floor_event)
        self._control = ControlReceiver(
            self.registry.memberships, self.presence, self.server, sender, self.terms, metrics, None
        )
        self.bursts = BurstTable()
        self._relay = VoiceRelay(
            SimpleNamespace(sendto=self._send_media), self.bursts, self.server, self.presence, self._control,
            _NoRecorder(), clock, metrics,
        )  # fmt: skip
        self.presence.start()
        for group in self.registry.groups.values():
            self.server.open_group(group)

    def _on_floor_event(self, group: Any, event: Any) -> None:
        if event.kind == FloorEventKind.BEGIN:
            device = self.registry.memberships[event.member.ssrc].device
            self.bursts.add(RelayedBurst(group, event.member, device, event.ssrc))

    def receive(self, port: int, source: tuple[str, int], data: bytes) -> None:
        buf = bytearray(data) + bytearray(64)
        if port == HUB[1]:
            self._control.on_floor_datagram(buf, len(data), source, 0)
        else:
            self._relay.on_media_datagram(buf, len(data), source, self._clock.unix_ns())

    def _send_floor(self, data: Any, address: Any) -> int:
        return self._send(HUB[1], bytes(data), address)

    def _send_media(self, data: Any, address: Any) -> int:
        return self._send(HUB[2], bytes(data), address)

    def _send(self, port: int, data: bytes, address: tuple[str, int]) -> int:
        def arrive() -> None:
            vest = self._site.vests[address[0].split(".")[0]]
            socket = vest.sockets.get(port)
            if vest.address(port) == tuple(address) and socket is not None and not socket.closed:
                socket.inbox.append(data)

        self._site.deliver(arrive, self._site.vests[address[0].split(".")[0]])
        return len(data)

    def send(self, device: str, kind: int, values: dict[str, Any]) -> None:
        self._site.send_message(device, wire(kind, values))


class TermsSite:
    """A site with devices, standing groups that the site file changes, and dynamic groups.

    Args:
        seed: Seed of all random numbers.
        folder: Empty folder for the state of the hub.
        make_terms: Makes the hub's GroupTerms; tests of the checks pass a mutant.
    """

    def __init__(
        self, seed: int, folder: Path, count: int = 6, make_terms: Callable[..., GroupTerms] = GroupTerms
    ) -> None:
        self.seed, self.folder = seed, folder
        self.rng = random.Random(f"terms {seed}")
        self.scheduler = Scheduler()
        self.loss = self.rng.uniform(0, 0.6)
        self._make_terms = make_terms
        self.names = [f"vest-{i}" for i in range(count)]
        (folder / "keys.toml").write_text("[devices]\n" + "".join(f'{name} = "{KEY.hex()}"\n' for name in self.names))
        (folder / "keys.toml").chmod(0o600)
        self.members = {number: set(self.names) for number in (1, 2)}
        self.write_site()
        self.hub: SiteHub | None = SiteHub(self, make_terms)
        self.vests = {name: Vest(self, name) for name in self.names}
        self.messages = self.dropped = 0
        for vest in self.vests.values():
            vest.open_session()
        self.scheduler.after(_STEP_MS, self._serve)
        self.scheduler.after(1000 * TURN_S, self._serve_hub)

    def write_site(self) -> None:
        text = _SITE
        for number, members in self.members.items():
            if members:
                devices = ", ".join(f'"{name}"' for name in sorted(members))
                text += f'[[group]]\nid = {number}\nname = "g{number}"\n[[group.member]]\ndevices = [{devices}]\n'
                text += 'rights = ["talk", "emergency"]\n'
        (self.folder / "site.toml").write_text(text)

    # --- network ------------------------------------------------------------------------------------------------------

    def after_delay(self, action: Callable[[], None]) -> None:
        self.scheduler.after(self.rng.uniform(10, 400), action)

    def deliver(self, action: Callable[[], Any], vest: Vest) -> None:
        """Deliver a datagram from or to a device, or lose it."""
        if self.rng.random() >= self.loss:
            self.after_delay(action)

    def send_message(self, device: str, body: bytes) -> None:
        """Deliver `ptt_group` if it is not lost and the device has the same session when it arrives."""
        self.messages += 1
        vest = self.vests[device]
        session = vest.session.connects
        if not vest.session.is_open or self.rng.random() < self.loss:
            self.dropped += 1
            return

        def arrive() -> None:
            if self.vests[device] is vest and vest.session.is_open and vest.session.connects == session:
                vest.receive_terms(body)

        self.after_delay(arrive)

    def frame_received(self, name: str, kind: int, body: bytes) -> None:
        """Process a message of a device as patrolink.hub.uplink does. The broker keeps it while the hub is away."""
        if self.hub is None:
            self.scheduler.after(500, lambda: self.frame_received(name, kind, body))
            return
        device = self.hub.registry.devices[name]
        if kind == patrolink_messages.PTT_STATUS:
            report = decode.decode(kind, body)
            self.hub.terms.report_received(device, report["room"], group_report.unpack_entries(report["groups"]))
        self.hub.terms.frame_received(device, kind == patrolink_messages.HELLO)

    def _serve(self) -> None:
        for vest in self.vests.values():
            vest.now_ms = int(self.scheduler.now)
            vest.serve()
            vest.status.poll(vest.now_ms)
        self.scheduler.after(_STEP_MS, self._serve)

    def _serve_hub(self) -> None:
        if self.hub is not None:
            self.hub.terms.send_next()
            self.hub.presence.expire()
        self.scheduler.after(1000 * TURN_S, self._serve_hub)

    # --- faults -------------------------------------------------------------------------------------------------------

    def stop_hub(self, clean: bool) -> None:
        assert self.hub is not None
        if clean:
            self.hub.presence.save(self.hub.presence.snapshot())
        self.hub = None

    def start_hub(self) -> None:
        self.hub = SiteHub(self, self._make_terms)

    def restart_hub(self) -> None:
        if self.hub is not None:
            self.stop_hub(self.rng.random() < 0.5)
            if self.rng.random() < 0.5:  # the site file was edited meanwhile
                self.members[1 + self.rng.randrange(2)] = {n for n in self.names if self.rng.random() < 0.7}
                self.write_site()
            if self.rng.random() < 0.1:  # the state was restored from nothing: all keys and SSRCs are new
                shutil.rmtree(self.folder / "state")
            self.scheduler.after(self.rng.uniform(10, 5000), self.start_hub)

    def reboot(self) -> None:
        name = self.rng.choice(self.names)
        self.vests[name] = Vest(self, name, self.vests[name])
        vest = self.vests[name]
        self.scheduler.after(
            self.rng.uniform(100, 8000), lambda: None if vest.session.connects else vest.open_session()
        )

    def drop_session(self) -> None:
        vest = self.vests[self.rng.choice(self.names)]
        if vest.session.is_open:
            vest.session.is_open = False
            self.scheduler.after(self.rng.uniform(500, 30_000), vest.open_session)

    def change_address(self) -> None:
        self.vests[self.rng.choice(self.names)].network_address += 1

    def make_group(self) -> None:
        if self.hub is not None:
            devices = self.rng.sample(self.names, self.rng.randrange(1, 5))
            group = completed(self.hub.registry.make_group("search", devices))
            self.hub.presence.members_added(group)
            self.hub.server.open_group(group)

    def end_group(self) -> None:
        if self.hub is not None:
            numbers = [number for number, group in self.hub.registry.groups.items() if group.kind == "dynamic"]
            if numbers:
                self.hub.server.close_group(completed(self.hub.registry.end_group(self.rng.choice(numbers))))

    # --- run ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run a phase with faults and one without, and check the devices at the end.

        Raises:
            InvariantError: A device does not know its groups and keys within the bound.
        """
        faults = [self.restart_hub, self.reboot, self.drop_session, self.change_address, self.make_group,
                  self.end_group]  # fmt: skip
        at_ms = self.scheduler.now
        while at_ms < BUSY_MS:
            self.scheduler.at(at_ms, self.rng.choice(faults))
            at_ms += self.rng.expovariate(1 / 6000)
        self.scheduler.run_until(BUSY_MS)
        self.loss = 0.0
        if self.hub is None:
            self.start_hub()
        for vest in self.vests.values():
            if not vest.session.is_open:
                vest.open_session()
        self.scheduler.run_until(BUSY_MS + BOUND_MS)
        self.check()

    def check(self) -> None:
        """Compare the groups and keys of all devices with those of the hub."""
        assert self.hub is not None
        for name, vest in self.vests.items():
            memberships = self.hub.registry.devices[name].memberships
            expected = {number: entry.group.key.secret for number, entry in memberships.items()}
            held = {group.number: group._secret for group in vest.client.groups}
            room = vest.client.room()
            wrong = sorted(set(held.items()) ^ set(expected.items()))
            if wrong and not (room == 0 and set(held.items()) < set(expected.items())):
                raise InvariantError(f"seed {self.seed}: {name} holds {sorted(held)}, belongs to {sorted(expected)}")


def main(seeds: int, first: int) -> int:
    os.fsync = lambda handle: None  # the power is not cut here
    start, failures, messages, dropped = time.perf_counter(), 0, 0, 0
    for seed in range(first, first + seeds):
        with tempfile.TemporaryDirectory() as folder:
            site = TermsSite(seed, Path(folder))
            try:
                site.run()
            except InvariantError as e:
                failures += 1
                print(e, file=sys.stderr)
            messages, dropped = messages + site.messages, dropped + site.dropped
    elapsed_s = time.perf_counter() - start
    virtual_s = seeds * (BUSY_MS + BOUND_MS) / 1000
    print(
        f"groups and keys: seeds {first} to {first + seeds - 1}, {failures} failed; {messages} messages with terms, "
        f"{dropped} lost; {virtual_s / elapsed_s:.0f} times real time"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:3]]
    sys.exit(main(*(arguments + [300, 1][len(arguments) :])))
