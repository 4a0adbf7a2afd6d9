"""Writes one image to many devices at once: a thread for each device, bounded in number.

Threads only execute the effects of `DeviceFlow`. They report through a queue to the thread that called `run`, which
owns all output and assigns rows of a table to devices, in the order of the ports. A thread whose step makes no progress
in time is abandoned: its device has failed, the others go on.
"""

import contextlib
import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from patrolink.core.errors import DeviceError, UserError
from patrolink.core.signals import stop_deferred
from patrolink.flash import ports
from patrolink.flash.device_flow import ENDED, GOOD, DeviceFlow, Effect, State
from patrolink.flash.method import Factory, Method
from patrolink.flash.records import Assignment, CancelledError, Identity, Plan, Port, RefusedError

_STEP_LIMIT_S = 900.0  # without progress; methods have limits of their own
_CANCEL_S = 15.0  # for a device to stop after a stop signal
_ABANDONED_S = 1.0  # for the threads of abandoned devices to end their child processes
_ORDER_S = 10.0  # for the first attempt of a device to be identified before devices behind it get free rows
_LOOK_S = 0.1
_LOG = logging.getLogger("patrolink.flash")


@dataclass
class Device:
    """A device of a run. Its thread writes, the thread of the run reads.

    Attributes:
        port: The port that the operator named, or that was found.
        path: Path of the port now.
        state: Current state.
        reason: Why it pauses, or ended without success.
        identity: What the device said; None before it is known.
        plan: What is written; None before it is known.
        assignment: Row that it gets; None before it is known.
        step: The step that it executes, or executed last.
        attempts: Attempts that have begun.
        done_bytes: Progress of the current step.
        total_bytes: Amount of the current step.
        start_s: Time at which its first attempt began; None while it waits.
        end_s: Time at which it ended; None before.
        step_s: Time at which the current step began.
        progress_s: Time of the last progress of the current step, or of its begin.
        cancel: Set when it must stop.
        asks: Whether it waits for a row.
        answers: Its row, or why it gets none.
    """

    port: Port
    path: str
    state: State = State.WAITING
    reason: str = ""
    identity: Identity | None = None
    plan: Plan | None = None
    assignment: Assignment | None = None
    step: State = State.WAITING
    attempts: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    start_s: float | None = None
    end_s: float | None = None
    step_s: float = field(default=0.0, repr=False)
    progress_s: float = field(default=0.0, repr=False)
    cancel: threading.Event = field(default_factory=threading.Event, repr=False)
    asks: bool = field(default=False, repr=False)
    answers: "queue.SimpleQueue[Assignment | UserError]" = field(default_factory=queue.SimpleQueue, repr=False)

    @property
    def good(self) -> bool:
        """Whether the device ended with success."""
        return self.state in GOOD


class Options(NamedTuple):
    """Settings of a run.

    Attributes:
        jobs: Devices at the same time.
        retries: Attempts after the first one.
        dry_run: Only identify and plan.
        step_limit_s: Time after which a step that makes no progress is abandoned.
    """

    jobs: int
    retries: int
    dry_run: bool = False
    step_limit_s: float = _STEP_LIMIT_S


class Fleet:
    """Writes an image to devices.

    Args:
        targets: Ports of the devices.
        make_method: Makes the method object of one attempt.
        listing: Returns the ports of this machine now.
        options: Settings.
        changed: Called by `run` after each change of a device's state.
        clock: Returns a monotonic time in seconds.
        assign: Called by `run` with a device that is identified, and whether all devices before it have their rows;
            returns its row, or None if that depends on the others, or raises RefusedError. None: devices are not
            provisioned.

    Attributes:
        devices: One for each target, in their order.
    """

    def __init__(
        self,
        targets: list[Port],
        make_method: Factory,
        listing: ports.Listing,
        options: Options,
        changed: Callable[[Device], None],
        clock: Callable[[], float] = time.monotonic,
        assign: Callable[[Device, bool], Assignment | None] | None = None,
    ) -> None:
        self.devices = [Device(port, port.path) for port in targets]
        self._make_method, self._listing, self._options = make_method, listing, options
        self._changed, self._clock, self._assign = changed, clock, assign
        self._cancelled, self._cancelled_s = False, 0.0
        self._error: Exception | None = None
        self._threads: list[threading.Thread] = []
        self._news: queue.SimpleQueue[tuple[Device, Effect]] = queue.SimpleQueue()

    def run(self) -> None:
        """Flash all devices and return when each has ended.

        A stop signal raises in this method: no further step begins, the devices that work are stopped, and the signal
        is raised again when they have ended.

        Raises:
            Exception: The first one of `changed`, after all devices have ended.
        """
        try:
            self._supervise()
        except BaseException:
            self._cancelled, self._cancelled_s = True, self._clock()
            for device in self.devices:
                device.cancel.set()
            self._supervise()
            raise
        finally:
            end_s = time.monotonic() + _ABANDONED_S
            for thread in self._threads:
                thread.join(max(0.0, end_s - time.monotonic()))
        if self._error is not None:
            raise self._error

    def _supervise(self) -> None:
        """Start threads, report their news, and abandon those that hang, until no device works."""
        working = True
        while working:
            with stop_deferred():  # a signal within a round would lose a thread or its news
                working = self._do_round()

    def _do_round(self) -> bool:
        """Look after all devices once. Returns False when no device works any more."""
        working = [device for device in self.devices if device.start_s is not None and device.state not in ENDED]
        waiting = [device for device in self.devices if device.state is State.WAITING and device.start_s is None]
        if not working and (not waiting or self._cancelled):
            for device in waiting:
                self._apply(device, Effect(State.CANCELLED, "stopped by the operator"))
            return False
        if not self._cancelled:
            for device in waiting[: self._options.jobs - len(working)]:
                self._start(device)
        with contextlib.suppress(queue.Empty):
            device, effect = self._news.get(timeout=_LOOK_S)
            if device.state not in ENDED:  # an abandoned thread may still report
                self._apply(device, effect)
        if not self._cancelled:
            self._assign_rows()
        self._abandon_hanging()
        return True

    def _assign_rows(self) -> None:
        """Answer devices that wait for a row: in the order of the ports, unless an earlier one takes too long."""
        in_order = True
        for device in self.devices:
            if device.asks:
                answer = self._row_of(device, in_order)
                device.asks = answer is None
                if answer is not None:
                    device.answers.put(answer)
            in_order = in_order and not device.asks and not self._may_come(device)

    def _may_come(self, device: Device) -> bool:
        """Return whether a device may still ask for the row before those of the devices behind it."""
        first = device.state in (State.WAITING, State.IDENTIFYING, State.PLANNING) and device.attempts <= 1
        return first and (device.start_s is None or self._clock() - device.start_s < _ORDER_S)

    def _row_of(self, device: Device, in_order: bool) -> Assignment | UserError | None:
        assert self._assign is not None
        try:
            device.assignment = self._assign(device, in_order)
        except UserError as e:
            return e
        return device.assignment

    def _start(self, device: Device) -> None:
        device.start_s = device.step_s = device.progress_s = self._clock()
        flow = DeviceFlow(self._options.retries, self._options.dry_run, self._assign is not None)
        worker = _Worker(device, self._make_method, self._listing, flow, self._clock, self._news)
        thread = threading.Thread(target=worker.run, name=f"flash {device.path}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _apply(self, device: Device, effect: Effect) -> None:
        device.state, device.reason = effect.state, effect.reason
        device.asks = effect.state is State.ASSIGNING
        device.step_s = device.progress_s = self._clock()
        if effect.state not in ENDED | {State.PAUSED}:
            device.step = effect.state
        if effect.state in ENDED:
            device.end_s = device.step_s
        try:
            self._changed(device)
        except Exception as e:  # a ledger that cannot be written must not stop devices that are being written
            self._error = self._error or e

    def _abandon_hanging(self) -> None:
        limit_s = min(_CANCEL_S, self._options.step_limit_s) if self._cancelled else self._options.step_limit_s
        for device in self.devices:
            since_s = max(device.step_s, self._cancelled_s) if self._cancelled else device.progress_s
            if device.start_s is not None and device.state not in ENDED and self._clock() - since_s > limit_s:
                reason = f"{device.state.value} did not end within {limit_s:g} s and was abandoned"
                remedy = "unplug the device, connect it again, then repeat the command"
                device.cancel.set()  # ends its child process
                self._apply(device, Effect(State.FAILED, f"{reason}; {remedy}"))


class _Worker:
    """Executes the flow of one device in a thread."""

    def __init__(
        self,
        device: Device,
        make_method: Factory,
        listing: ports.Listing,
        flow: DeviceFlow,
        clock: Callable[[], float],
        news: "queue.SimpleQueue[tuple[Device, Effect]]",
    ) -> None:
        self._device, self._make_method, self._listing = device, make_method, listing
        self._flow, self._clock, self._news = flow, clock, news
        self._assignment: Assignment | None = None

    def run(self) -> None:
        """Work until the device has ended."""
        effect = self._flow.begin()
        while effect.state not in ENDED:
            if effect.state is State.PAUSED:
                self._news.put((self._device, effect))
                effect = self._flow.cancelled() if self._device.cancel.wait(effect.pause_s) else self._flow.begin()
            else:
                effect = self._attempt(effect)
        self._news.put((self._device, effect))

    def _attempt(self, effect: Effect) -> Effect:
        """Execute the steps of one attempt; returns a pause or an end."""
        self._device.attempts = self._flow.attempts
        try:
            path = ports.current_path(self._device.port, self._listing())
            self._device.path = path
            with locked(path), contextlib.closing(self._make_method(path, self._device.cancel)) as method:
                while effect.state not in ENDED and effect.state is not State.PAUSED:
                    if self._device.cancel.is_set():
                        return self._flow.cancelled()
                    self._news.put((self._device, effect))
                    effect = self._execute(effect.state, method)
                return effect
        except RefusedError as e:
            return self._flow.refused(str(e))
        except CancelledError:
            return self._flow.cancelled()
        except UserError as e:
            return self._flow.cancelled() if self._device.cancel.is_set() else self._flow.failed(str(e))
        except Exception as e:  # one device must not stop the others
            _LOG.exception("%s: bug in %s", self._device.path, self._flow.state.value)
            return self._flow.failed(f"{type(e).__name__}: {e}; this is a bug, please report it (-v shows more)")

    def _execute(self, step: State, method: Method) -> Effect:
        device, flow = self._device, self._flow
        device.done_bytes = device.total_bytes = 0
        if step is State.IDENTIFYING:
            identity = method.identify()
            effect = flow.identified(identity)
            device.identity = flow.identity
            return effect
        if step is State.PLANNING:
            assert flow.identity is not None
            device.plan = method.plan(flow.identity)
            return flow.planned(device.plan)
        if step is State.ASSIGNING:
            self._assignment = self._wait_for_row(method)
            return flow.assigned()
        if step is State.CONFIRMING:
            if ports.current_path(device.port, self._listing()) != device.path:
                raise DeviceError(
                    f"{device.path}: the system has given this port to another device; nothing was written"
                )
            return flow.identified(method.identify())
        if step is State.PROVISIONING:
            assert self._assignment is not None
            return flow.provisioned(method.provision(self._assignment))
        assert device.plan is not None
        if step is State.WRITING:
            method.write(device.plan, self._report)
        elif step is State.VERIFYING:
            method.verify(device.plan)
        else:
            method.release()
        return flow.completed()

    def _wait_for_row(self, method: Method) -> Assignment:
        while True:
            method.check_cancelled()
            with contextlib.suppress(queue.Empty):
                answer = self._device.answers.get(timeout=_LOOK_S)
                if isinstance(answer, UserError):
                    raise answer
                return answer

    def _report(self, done: int, total: int) -> None:
        self._device.done_bytes, self._device.total_bytes = done, total
        self._device.progress_s = self._clock()


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a board: tests on boards take it too. Windows opens a port for one program only."""
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    from patrolink.core.board_lock import Lock

    name = os.path.realpath(path) if os.path.exists(path) else path  # an address for ssh is the same in all folders
    with contextlib.closing(Lock(name, wait_s=0)):
        yield
