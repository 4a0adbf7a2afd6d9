"""A dispatcher of a district: answers alarms, talks, and sends commands, through a session of the hub."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from patrolink.core.errors import DeadlineError, UserError
from patrolink.emulator.scenarios.district.board import with_cameras_often
from patrolink.emulator.scenarios.district.invariants import Monitor
from patrolink.emulator.virtual_loop import VirtualLoop
from patrolink.hub.app import Hub
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.session import DispatcherSession

_RECONNECT_S = 1, 5
_THINK_S = 2, 20
_FRAME_S = 0.06
_ALAW = bytes(480)
_RECORDED = 0.5  # part of the commands


class SimulatedDispatcher:
    """A dispatcher with a console.

    Args:
        config: Name and priority.
        seed: Seed of the run.
        groups: Numbers of the groups that the dispatcher may use.
        devices: Ids of the devices that get commands.
        talk_s: Mean time between two bursts.
        group_h: Mean hours between two dynamic groups; None: the dispatcher makes none.
        before_answer: Called with the device before each answer to an SOS.
    """

    def __init__(
        self,
        config: Dispatcher,
        seed: int,
        groups: list[int],
        devices: list[str],
        talk_s: float,
        group_h: float | None,
        before_answer: Callable[[str], None],
        monitor: Monitor,
    ) -> None:
        self._config, self._groups, self._devices, self._monitor = config, groups, devices, monitor
        self._talk_s, self._group_h, self._before_answer = talk_s, group_h, before_answer
        self._random = random.Random(f"{seed} dispatcher {config.name}")
        self._watched, self._sounding = with_cameras_often(devices), devices[1::2]
        self._open_groups: list[int] = []
        self._granted: asyncio.Event | None = None
        self._answering: set[asyncio.Task[None]] = set()

    def connect(self, hub: Hub, loop: VirtualLoop) -> None:
        """Open a session at a hub that has started; the session ends with the hub."""
        loop.create_task(self._work(hub))

    async def _work(self, hub: Hub) -> None:
        await asyncio.sleep(self._random.uniform(*_RECONNECT_S))
        session = hub.open_session(self._config)
        self._granted = asyncio.Event()
        tasks = [asyncio.ensure_future(self._read(session)), asyncio.ensure_future(self._talk(session))]
        tasks += [asyncio.ensure_future(self._command(session)), asyncio.ensure_future(self._watch(session))]
        tasks += [asyncio.ensure_future(self._listen_in(session))]
        if self._group_h is not None:
            tasks += [asyncio.ensure_future(self._make_groups(session, self._group_h * 3600))]
        try:
            alarms = session.snapshot()["alarms"]
            self._monitor.sos.check_snapshot(alarms)
            for row in alarms:
                self._on_alarm(session, row)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                self._monitor.violate("dispatcher", f"{self._config.name}: {task.exception()!r}")
        finally:
            session.close()

    async def _read(self, session: DispatcherSession) -> None:
        while True:
            message = await session.queue.next()
            if not isinstance(message, dict):
                self._monitor.sums["voice_to_dispatchers"] += 1
            elif message["type"] == "event":
                self._on_alarm(session, message)
            elif message["type"] == "warning" and message["warning"] == "clone":
                self._monitor.sums["copies_shown"] += 1
                self._monitor.identities.warned(message["device"])
            elif message["type"] == "granted" and self._granted is not None:
                self._granted.set()
            elif message["type"] == "position":
                self._monitor.positions.shown(self._config.name, message)
            elif message["type"] == "lost":
                self._monitor.positions.reset()
                self._monitor.sums["console_messages_lost"] += message["count"]

    # --- alarms -------------------------------------------------------------------------------------------------------

    def _on_alarm(self, session: DispatcherSession, row: dict[str, Any]) -> None:
        if not row["ack_wanted"] or row["phase"] in ("cleared", "cancelled"):
            return
        device, event_id = row["device"], row["event_id"]
        self._monitor.sos.shown_to_dispatcher(self._config.name, device, event_id, row["phase"])
        if row.get("taken_by") in (None, self._config.name):
            task = asyncio.ensure_future(self._handle(session, device, event_id))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _handle(self, session: DispatcherSession, device: str, event_id: int) -> None:
        for state in ("accepted", self._random.choice(("resolved", "false_alarm"))):
            await asyncio.sleep(self._random.uniform(*_THINK_S))
            self._before_answer(device)
            try:
                session.answer_event(device, event_id, state)
            except (UserError, OSError) as e:
                if asyncio.get_running_loop().is_closed():
                    self._monitor.sos.answer_lost(device, event_id)
                else:
                    self._monitor.sos.answer_refused(device, event_id, str(e))
                return
            if asyncio.get_running_loop().is_closed():
                self._monitor.sos.answer_lost(device, event_id)
                return
            self._monitor.sos.answered(self._config.name, device, event_id, state != "accepted")

    # --- voice and commands -------------------------------------------------------------------------------------------

    async def _talk(self, session: DispatcherSession) -> None:
        assert self._granted is not None
        while self._groups:
            await asyncio.sleep(self._random.expovariate(1 / self._talk_s))
            group = self._random.choice(self._groups)
            self._granted.clear()
            try:
                await session.request_floor(group, emergency=self._random.random() < 0.1)
                if not self._granted.is_set():
                    await asyncio.wait([asyncio.ensure_future(self._granted.wait())], timeout=10)
                for _ in range(self._random.randrange(10, 40)):
                    if not session.send_audio(group, _ALAW):
                        break
                    self._monitor.sums["dispatcher_voice"] += 1
                    await asyncio.sleep(_FRAME_S)
                session.release_floor(group)
            except (UserError, OSError):
                self._monitor.sums["dispatcher_refused"] += 1

    async def _command(self, session: DispatcherSession) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / (4 * self._talk_s)))
            try:
                if self._random.random() < _RECORDED:
                    self._record(session, self._random.choice(self._watched))
                else:
                    session.command(self._random.choice(self._devices), "locate")
                self._monitor.sums["commands"] += 1
            except (UserError, OSError):
                self._monitor.sums["dispatcher_refused"] += 1

    def _record(self, session: DispatcherSession, device: str) -> None:
        consent = self._monitor.consent
        consent.recording_requested(device)
        try:
            session.command(device, "start_recording", self._random.randrange(2, 10))
        except UserError:
            consent.recording_refused(device)
            raise

    async def _listen_in(self, session: DispatcherSession) -> None:
        """Listen to a device with sound now and then; half of them do not permit it, and half of the sites."""
        while self._sounding:
            await asyncio.sleep(self._random.expovariate(1 / (4 * self._talk_s)))
            device = self._random.choice(self._sounding)
            try:
                self._monitor.consent.listening_requested(device)
                await session.listen_in(device, "exercise")
                self._monitor.sums["listenings"] += 1
            except (UserError, OSError) as e:
                if isinstance(e, UserError) and not isinstance(e, DeadlineError):
                    self._monitor.consent.listening_refused(device)
                self._monitor.sums["dispatcher_refused"] += 1

    async def _watch(self, session: DispatcherSession) -> None:
        """Watch a device now and then; most have no camera, and refuse."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._talk_s))
            device, seconds = self._random.choice(self._watched), self._random.randrange(5, 40)
            try:
                session.live_start(device, seconds, "rtp")
                self._monitor.cameras.watch_begun(device, seconds)
                self._monitor.sums["views"] += 1
                await asyncio.sleep(self._random.uniform(1, 50))
                session.live_stop(device)
            except (UserError, OSError):  # refused, or over
                self._monitor.sums["views_ended"] += 1

    async def _make_groups(self, session: DispatcherSession, every_s: float) -> None:
        """Make a group now and then, and end it; one whose hub died is ended as soon as a hub serves again."""
        while True:
            await self._end_groups(session)
            await asyncio.sleep(self._random.expovariate(1 / every_s))
            devices = self._random.sample(self._devices, min(3, len(self._devices)))
            try:
                self._open_groups.append(await session.make_group("Task", devices))
                self._monitor.sums["groups_made"] += 1
                await asyncio.sleep(self._random.uniform(20, 200))
            except (UserError, OSError):
                self._monitor.sums["dispatcher_refused"] += 1

    async def _end_groups(self, session: DispatcherSession) -> None:
        while self._open_groups:
            try:
                await session.end_group(self._open_groups[0])
            except (DeadlineError, OSError):
                self._monitor.sums["dispatcher_refused"] += 1
                return
            except UserError:  # there is no such group: the hub had not stored it
                self._monitor.sums["dispatcher_refused"] += 1
            self._open_groups.pop(0)
