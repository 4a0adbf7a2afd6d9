"""A run of `patrolink validate`: from its options to results, known failures and report files."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from platformdirs import user_state_path

from patrolink.conformance import check, known_failures, profile, shrink, suite, target
from patrolink.conformance.case import CODEC, DEVICE, START, Verdict
from patrolink.conformance.report import document, html, junit, signature
from patrolink.conformance.report.document import Document, RunInfo
from patrolink.conformance.runner import Result, Runner
from patrolink.conformance.testee.testee import Testee
from patrolink.core import keys
from patrolink.core.decoder import rfc3339
from patrolink.core.errors import UserError
from patrolink.core.text import printable
from patrolink.flash.image import release_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_SHRINK_LIMIT_MS = 120_000  # of a run; what fails later is handed over as it is


class Shortest(NamedTuple):
    """A failing sequence of requests.

    Attributes:
        lines: The requests.
        whole: Number of requests that it was found in: those of the case, or all since the start of the codec.
        fault: What is wrong with the last answer; empty: the reference cannot judge it, and nothing was left out.
    """

    lines: list[str]
    whole: int
    fault: str


class Options(Protocol):
    """Options of the verb that a run depends on; see `patrolink validate --help`."""

    target: list[str]
    tier: str | None
    profile: str | None
    known: str | None
    keys: str | None
    device: str | None
    report: str | None
    sign: str | None
    html: str | None
    junit: str | None
    replay: list[str] | None
    shrink: str | None
    suite: str | None
    seed: int
    limit: float
    timeout: float


class Session:
    """One run.

    Attributes:
        cases: The cases that are run.
        results: What was found so far.
        known_failures: Ids of failures that are as listed; complete after `finish`.
        known_errors: A line for each listed failure that is not; complete after `finish`.

    Args:
        options: The options.
        monotonic_ms: Monotonic clock.
        unix_ms: Time of day.

    Raises:
        UserError: An option is wrong; nothing was started.
    """

    def __init__(self, options: Any, monotonic_ms: Callable[[], int], unix_ms: Callable[[], int]) -> None:
        self._options: Options = options
        self._monotonic_ms = monotonic_ms
        self._target = target.parse(options.target[0])
        self._tier = options.tier or self._target.tier
        self._signing_key = _signing_key(options)
        self._profile = (
            profile.load(Path(options.profile), self._tier) if options.profile else profile.complete(self._tier)
        )
        self._known = known_failures.load(Path(options.known)) if options.known else []
        for name in (options.report, options.html, options.junit):
            if name and not Path(name).absolute().parent.is_dir():
                raise UserError(f"{name}: its folder does not exist; create it first")
        self.cases = _cases(options, self._tier)
        self._device = None
        if self._tier == DEVICE:
            name, key = target.device_key(self._target, options.device, keys.find(options.keys, None))
            self._state = user_state_path("patrolink", appauthor=False) / "validate_counters.json"
            self._device = target.reserve_counters(self._state, name, key, len(self.cases), unix_ms())
        self._testee = self._new_testee()
        self._shrink_ms = 0
        self._history: list[str] = []
        self._limit_ms = int(options.limit * 1000)
        self._started = rfc3339(unix_ms()) or ""
        self._begin_ms = monotonic_ms()
        self.results: list[Result] = []
        self.known_failures: set[str] = set()
        self.known_errors: list[str] = []

    def run(self) -> Iterator[Result]:
        """Run the cases; yield each result."""
        options = self._options
        runner = Runner(
            self._testee,
            options.seed,
            self._monotonic_ms,
            self._limit_ms,
            self._profile.claims,
            self._device,
        )
        try:
            for result in runner.run(self.cases):
                self.results.append(result)
                yield result
                self._remember(result)
        finally:
            if runner.device is not None:
                target.remember_epoch(self._state, runner.device)

    def _remember(self, result: Result) -> None:
        """Keep the requests since the last start of the testee: a later failure may depend on them."""
        if result.evidence is None or result.evidence.fault is not None:
            self._history.clear()
        else:
            self._history += [exchange.step.data for exchange in result.evidence.exchanges]

    def shortest_failing(self, result: Result) -> Shortest | None:
        """Return the shortest part of the requests of a failed case that fails, too; None if it has no requests."""
        evidence = result.evidence
        failed = result.judgement.verdict in (Verdict.FAIL, Verdict.NON_STRICT)
        if self._tier != CODEC or not failed or result.judgement.cause == START or evidence is None:
            return None
        lines = [exchange.step.data for exchange in evidence.exchanges]
        testee = self._new_testee()
        begin_ms = self._monotonic_ms()

        def fails(part: Sequence[str]) -> bool:
            spent_ms = self._shrink_ms + self._monotonic_ms() - begin_ms
            return spent_ms < _SHRINK_LIMIT_MS and bool(shrink.disagreement(part, testee))

        try:
            whole = lines if fails(lines) else [*self._history, *lines]
            shortest = shrink.shrink(whole, fails)
        except ValueError:
            return Shortest(lines, len(lines), "")
        finally:
            self._shrink_ms += self._monotonic_ms() - begin_ms
        return Shortest(shortest, len(whole), shrink.disagreement(shortest, testee))

    def hand_over(self, result: Result, shortest: Shortest, folder: Path) -> tuple[Path, str]:
        """Write a failing sequence to a file; return the file and the command that sends it again."""
        path = folder / f"{result.case.id}.requests"
        command = shlex.join(["patrolink", "validate", self._target.text, "--requests", str(path)])
        fault = shortest.fault or f"not shortened: {result.judgement.reason}"
        comments = [f"{result.case.id} {result.case.title}", fault, f"seed {self._options.seed}", command]
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, shrink.render(shortest.lines, [printable(comment) for comment in comments]))
        return path, command

    def _new_testee(self) -> Testee:
        return target.testee(self._target, self._tier, self._profile, self._monotonic_ms, self._options.timeout)

    def finish(self) -> Document:
        """Compare with the known failures, write the files and return the report."""
        self.known_failures, self.known_errors = known_failures.compare(self._known, self.results)
        options = self._options
        info = RunInfo(
            suite=options.suite or suite.versions()[-1].name,
            tier=self._tier,
            testee=self._testee.describe(),
            clock=self._testee.clock,
            seed=options.seed,
            started=self._started,
            profile=self._profile.fields(),
            device=self._device,
            selection=tuple(options.replay or ()),
            known_failures=tuple(self.known_failures),
            replay=self._replay_command(),
            limit_ms=self._limit_ms,
        )
        report = document.build(info, self.results, self._monotonic_ms() - self._begin_ms)
        report = signature.sign(report, self._signing_key) if self._signing_key else signature.unsigned(report)
        if options.report:
            _write(Path(options.report), signature.render(report))
        if options.html:
            _write(Path(options.html), html.render([report], [signature.state(report)]))
        if options.junit:
            _write(Path(options.junit), junit.render(report))
        return report

    def _replay_command(self) -> str:
        options = self._options
        words = ["patrolink", "validate", self._target.text, "--tier", self._tier, "--seed", str(options.seed)]
        named = {"--profile": options.profile, "--keys": options.keys, "--device": options.device}
        named["--suite"] = options.suite
        for name, value in named.items():
            words += [name, value] if value else []
        return shlex.join(words)


def _cases(options: Options, tier: str) -> "list[Any]":
    of_tier = [case for case in suite.load(options.suite) if case.tier == tier]
    try:
        cases = check.select(of_tier, list(options.replay or ()))
    except ValueError as e:
        raise UserError(f"{e}; nothing was run") from None
    if not cases:
        raise UserError(f"the suite has no case of the tier {tier}; nothing was run")
    return cases


def _signing_key(options: Options) -> "ec.EllipticCurvePrivateKey | None":
    if not options.sign:
        return None
    if not options.report:
        raise UserError("--sign needs a report to sign; name its file with --report")
    passphrase = os.environ.get(release_key.PASSPHRASE_VARIABLE, "").encode() or None
    private = release_key.load_private(Path(options.sign), passphrase)
    if private is None:
        raise UserError(
            f"{options.sign}: the key is encrypted; set {release_key.PASSPHRASE_VARIABLE} to its passphrase"
        )
    return private


def _write(path: Path, text: str) -> None:
    """Write a file as a whole, or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
