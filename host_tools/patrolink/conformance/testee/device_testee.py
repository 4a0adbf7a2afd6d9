"""What the testees of the device tier share: steps, times, limits. A subclass moves bytes."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from patrolink.conformance.case import DEVICE, FLOOD, STIMULUS_FAILED
from patrolink.conformance.evidence import (
    FRAMES_MAX,
    LINK,
    LISTEN,
    OUTPUT,
    RAW,
    RESTART,
    SEND,
    STIMULUS,
    TRANSMIT,
    WAIT,
    Answer,
    Step,
    is_frame,
)
from patrolink.conformance.schedule import NO_LINK, NO_NETWORK, no_command
from patrolink.conformance.testee.network_packets import Traffic, parse
from patrolink.conformance.testee.testee import Ending, StepUnavailableError, TesteeFaultError

_STIMULUS_TIMEOUT_S = 30.0
_OUTPUT_MAX = 200_000  # bytes; the evidence of a case is limited


class DeviceTestee(ABC):
    """Performs the steps of the device tier.

    Args:
        monotonic_ms: Clock.
        stimuli: Name of a stimulus → command that makes a person's action happen, from the profile.
    """

    tier = DEVICE
    clock = "monotonic"
    has_network = False  # whether the network of the device is within reach of the kit

    def __init__(self, monotonic_ms: Callable[[], int], stimuli: Mapping[str, list[str]]) -> None:
        self._monotonic_ms = monotonic_ms
        self._stimuli = stimuli
        self._begin_ms = 0

    @abstractmethod
    def start(self) -> None:
        """Start the device or connect to it."""

    @abstractmethod
    def stop(self) -> Ending:
        """End the device or disconnect from it."""

    @abstractmethod
    def write_frame(self, frame: bytes) -> None:
        """Send a frame to the device."""

    @abstractmethod
    def write_raw(self, data: bytes) -> None:
        """Send bytes that are no packet."""

    @abstractmethod
    def next_arrival(self, timeout_ms: int) -> str | None:
        """Return the next frame of the device, in hexadecimal digits, or what it has sent on its network.

        None if nothing has come within this time.
        """

    def write_traffic(self, traffic: Traffic) -> None:
        """Send a datagram or bytes of a stream to the device.

        Raises:
            StepUnavailableError: The network of the device is not within reach of the kit.
        """
        raise StepUnavailableError(NO_NETWORK)

    @abstractmethod
    def settle(self) -> None:
        """End a case. A device may send at any time; what comes now is found by `begin` of the next case."""

    def restart(self) -> None:
        """Cut the power of the device and start it again."""
        if RESTART not in self._stimuli:
            raise StepUnavailableError(no_command(RESTART))
        self._stimulate(RESTART)

    def control_link(self, action: str) -> None:
        """Cut the link of the device, or do what else `evidence.link` describes."""
        raise StepUnavailableError(NO_LINK)

    def clock_ms(self) -> int:
        """Return the time of the clock that cases are timed with."""
        return self._monotonic_ms()

    def begin(self) -> None:
        """Begin a case; what the device has sent before belongs to no case."""
        for _ in range(FRAMES_MAX):
            if self.next_arrival(0) is None:
                break
        else:
            raise TesteeFaultError(FLOOD, f"more than {FRAMES_MAX} frames between two cases")
        self._begin_ms = self.clock_ms()

    def now_ms(self) -> int:
        """Return the time since `begin`."""
        return self.clock_ms() - self._begin_ms

    def perform(self, step: Step) -> tuple[Answer, ...]:
        """Perform a step; see `Testee.perform`."""
        if step.op == SEND:
            self.write_frame(bytes.fromhex(step.data))
        elif step.op == RAW:
            self.write_raw(bytes.fromhex(step.data))
        elif step.op == RESTART:
            self.restart()
        elif step.op == LINK:
            self.control_link(step.data)
        elif step.op == STIMULUS:
            self._stimulate(step.data)
        elif step.op == OUTPUT:
            return (Answer(self.now_ms(), self._stimulate(step.data).hex()),)
        elif step.op == TRANSMIT:
            self.write_traffic(parse(step.data))
        elif step.op == LISTEN and not self.has_network:
            raise StepUnavailableError(NO_NETWORK)
        elif step.op in (WAIT, LISTEN):
            return self._collect(step)
        else:
            raise StepUnavailableError(f"a device cannot perform the step {step.op}")
        return ()

    def _collect(self, step: Step) -> tuple[Answer, ...]:
        frames: list[Answer] = []
        end_ms = self.now_ms() + step.ms
        try:
            while len(frames) < step.frames:
                arrival = self.next_arrival(max(0, end_ms - self.now_ms()))
                if arrival is None:
                    return tuple(frames)
                if step.op == LISTEN or is_frame(arrival):
                    frames.append(Answer(self.now_ms(), arrival))
        except TesteeFaultError as e:
            raise TesteeFaultError(e.cause, e.detail, tuple(frames)) from None
        if step.frames >= FRAMES_MAX:
            raise TesteeFaultError(FLOOD, f"more than {FRAMES_MAX} frames in {step.ms} ms", tuple(frames))
        return tuple(frames)

    def _stimulate(self, name: str) -> bytes:
        """Run a command of the profile; return what it has written."""
        command = self._stimuli.get(name)
        if command is None:
            raise StepUnavailableError(no_command(name))
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                timeout=_STIMULUS_TIMEOUT_S,
            )  # fmt: skip
        except OSError as e:
            raise TesteeFaultError(STIMULUS_FAILED, f"stimulus {name}: {command[0]}: {e.strerror}") from None
        except subprocess.TimeoutExpired:
            raise TesteeFaultError(
                STIMULUS_FAILED, f"stimulus {name}: no end within {_STIMULUS_TIMEOUT_S:g} s"
            ) from None
        if done.returncode:
            raise TesteeFaultError(STIMULUS_FAILED, f"stimulus {name}: exit code {done.returncode}")
        return done.stdout[:_OUTPUT_MAX]
