"""Runs cases on a testee and records the evidence; the verdict is computed from the evidence alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from patrolink.conformance import epochs
from patrolink.conformance.case import (
    CRASH,
    FLOOD,
    START,
    UNAVAILABLE,
    WRONG_ANSWER,
    AnswerShapeError,
    Case,
    Context,
    DeviceUnderTest,
    Judgement,
    judge,
    run_script,
)
from patrolink.conformance.evidence import Answer, Evidence, Exchange, Fault, Step, shortened
from patrolink.conformance.schedule import Schedule
from patrolink.conformance.testee.null_testee import LoadMeter
from patrolink.conformance.testee.testee import StepUnavailableError, Testee, TesteeFaultError

STEPS_MAX = 10_000
EVIDENCE_MAX_BYTES = 1 << 20  # of one case
COUNTERS_PER_CASE = 100


class Result(NamedTuple):
    """A case that was dealt with.

    Attributes:
        case: The case.
        judgement: Verdict and reason.
        evidence: What was observed; None if the case was not run.
        counter: First downlink counter of the case; 0 in the codec tier.
        duration_ms: How long it took.
        epoch: Key epoch of the device when the case began; 0 in the codec tier.
    """

    case: Case
    judgement: Judgement
    evidence: Evidence | None
    counter: int
    duration_ms: int
    epoch: int = 0


class Runner:
    """Runs cases, one after the other.

    Attributes:
        device: The device with its present key epoch; None in the codec tier.

    Args:
        testee: The testee.
        seed: Seed of the run.
        monotonic_ms: Clock for durations and the limit.
        limit_ms: Longest time of the run; cases that do not begin within it are skipped.
        claims: Claim → "yes" or "no".
        device: The device of the device tier, with the first downlink counter of the run.
        new_load_meter: Starts a null testee for a case that measures time.
    """

    def __init__(
        self,
        testee: Testee,
        seed: int,
        monotonic_ms: Callable[[], int],
        limit_ms: int,
        claims: Mapping[str, str] = MappingProxyType({}),
        device: DeviceUnderTest | None = None,
        new_load_meter: Callable[[], LoadMeter] = LoadMeter,
    ) -> None:
        self._testee = testee
        self._seed = seed
        self._monotonic_ms = monotonic_ms
        self._schedule = Schedule(claims, limit_ms)
        self._claims = claims
        self.device = device
        self._new_load_meter = new_load_meter
        self._running = False

    def run(self, cases: Iterable[Case]) -> Iterator[Result]:
        """Yield the result of each case. The testee is started for the first one and stopped after the last."""
        try:
            for index, case in enumerate(cases):
                result = self._result(case, index)
                self._schedule.add(result.evidence, result.duration_ms)
                yield result
        finally:
            self._testee.stop()  # also one that was being started

    def _result(self, case: Case, index: int) -> Result:
        refusal = self._schedule.refusal(case)
        if refusal is not None:
            return Result(case, refusal, None, 0, 0)
        device = self.device
        counter = 0
        if device is not None:
            counter = device.counter + index * COUNTERS_PER_CASE
            device = device._replace(counter=counter)
        context = Context(case, self._seed, device, self._claims, self._testee.clock == "virtual")
        begin_ms = self._monotonic_ms()
        evidence = self._gather(context)
        epoch = 0
        if self.device is not None and device is not None:
            epoch = device.epoch
            self.device = self.device._replace(epoch=epochs.after(device, evidence))
        return Result(case, judge(context, evidence), evidence, counter, self._monotonic_ms() - begin_ms, epoch)

    def _gather(self, context: Context) -> Evidence:
        """Run a case and return its evidence."""
        recording = _Recording(self._testee)
        fault = None
        meter = self._new_load_meter() if context.case.timed and not context.virtual else None
        try:
            self._start()
            self._testee.begin()
            run_script(context, recording.perform)
            self._testee.settle()
        except TesteeFaultError as e:
            fault = self._fault(e)
        except AnswerShapeError as e:
            fault = self._fault(TesteeFaultError(WRONG_ANSWER, str(e)))
        except StepUnavailableError as e:
            fault = Fault(UNAVAILABLE, str(e))
            self._stop()  # whatever state the case has left is not the next case's
        finally:
            load_ms = meter.stop() if meter is not None else 0
        return Evidence(tuple(recording.exchanges), fault, self._testee.clock, load_ms)

    def _start(self) -> None:
        if self._running:
            return
        self._testee.start()
        self._running = True

    def _stop(self) -> None:
        if self._running:
            self._testee.stop()
            self._running = False

    def _fault(self, error: TesteeFaultError) -> Fault:
        """Return the fault for the evidence and stop the testee, so that the next case finds a fresh one."""
        if not self._running:
            return Fault(START, error.detail)
        ending = self._testee.stop()
        self._running = False
        lines = ending.stderr.strip().splitlines()
        output_end = f"; it wrote: {shortened(lines[-1])}" if lines and error.cause == CRASH else ""
        return Fault(error.cause, error.detail + output_end, ending.exit_code, ending.stderr)


class _Recording:
    """The exchanges of a case, within limits."""

    def __init__(self, testee: Testee) -> None:
        self._testee = testee
        self._bytes = 0
        self.exchanges: list[Exchange] = []

    def perform(self, step: Step) -> Exchange:
        """Perform a step and record what arrived."""
        if len(self.exchanges) >= STEPS_MAX:
            raise TesteeFaultError(FLOOD, f"more than {STEPS_MAX} steps")
        at_ms = self._testee.now_ms()
        try:
            answers = self._testee.perform(step)
        except TesteeFaultError as e:
            self._add(step, at_ms, e.answers)
            raise
        except StepUnavailableError:
            self._add(step, at_ms, ())
            raise
        exchange = self._add(step, at_ms, answers)
        if self._bytes > EVIDENCE_MAX_BYTES:
            raise TesteeFaultError(FLOOD, f"more than {EVIDENCE_MAX_BYTES} bytes in one case")
        return exchange

    def _add(self, step: Step, at_ms: int, answers: tuple[Answer, ...]) -> Exchange:
        exchange = Exchange(step, at_ms, answers)
        self._bytes += len(step.data) + sum(len(answer.text) for answer in answers)
        self.exchanges.append(exchange)
        return exchange
