"""Runs voice and service of a hub as two processes, and starts one again that has ended."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core import notes, signals
from patrolink.core.errors import DeadlineError, DeviceError, ServerError, UserError
from patrolink.hub.infra import priority
from patrolink.hub.infra.metrics import Metrics, MetricsSnapshot
from patrolink.hub.process_commands import GO, STOP

_MODULE = "patrolink.hub.half_process"
_STOP_S = 15  # until a half that does not end is killed
_SERVICE_STEPS = 5  # nice value above that of voice: a third of its CPU time, if both want the same core
_STABLE_S = 60  # a half that has run for so long is started again at once
_FIRST_DELAY_S, _MAX_DELAY_S = 0.25, 30.0
_ERRORS = {error.exit_code: error for error in (UserError, ServerError, DeadlineError)}

Ready = Callable[[dict[str, Any]], None]


class Half:
    """One half of the hub.

    Args:
        name: "voice" or "service".
        arguments: Arguments of the process after its name.
        steps: Nice value of the process above that of this one.
        starting: Held while a process is started.
        may_begin: Set when the half may begin.
        on_ready: Called with the facts that the half reports when it has started, at each start.

    Attributes:
        facts: Site and shard, after the end.
        metrics: Its metrics, after the end.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        steps: int,
        starting: asyncio.Lock,
        may_begin: asyncio.Event,
        on_ready: Ready,
    ) -> None:
        self._name, self._arguments, self._steps, self._starting = name, arguments, steps, starting
        self._may_begin, self._on_ready = may_begin, on_ready
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = self._was_ready = False
        self.facts: dict[str, Any] = {}
        self.metrics = Metrics().snapshot()

    async def keep(self) -> None:
        """Run the process, and start it again when it ends, until `stop` or cancelled.

        Raises:
            UserError: The first start failed.
        """
        loop, delay_s = asyncio.get_running_loop(), 0.0
        while not self._is_stopping:
            started_s = loop.time()
            error = await self._run()
            if self._is_stopping:
                return
            if not self._was_ready:
                raise error or ServerError(f"the {self._name} of the hub ended at its start; see its messages above")
            if loop.time() - started_s >= _STABLE_S:
                delay_s = 0.0
            code = self._process.returncode if self._process else None
            reason = str(error) if error else _end_reason(code)
            notes.note(f"the hub's {self._name} ended ({reason}); starting it again in {delay_s:g} s")
            await asyncio.sleep(delay_s)
            delay_s = min(_MAX_DELAY_S, max(_FIRST_DELAY_S, 2 * delay_s))

    async def _run(self) -> UserError | None:
        """Run the process once. Returns the error that it has reported."""
        command = [sys.executable, "-m", _MODULE, self._name, *self._arguments]
        pipe = asyncio.subprocess.PIPE
        async with self._starting:
            with signals.blocked():  # the process ignores them from its first line on: Ctrl-C is for the supervisor
                self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 20)
        priority.set_below(self._process.pid, self._steps)
        beginning = asyncio.ensure_future(self._begin())
        error = None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            error = self._on_message(json.loads(line)) or error
        await self._process.wait()
        beginning.cancel()
        return error

    async def _begin(self) -> None:
        if not self._is_stopping:
            await self._may_begin.wait()
            self._command(GO)
        if self._is_stopping:
            self._command(STOP)

    def _on_message(self, message: dict[str, Any]) -> UserError | None:
        if "error" in message:
            return _ERRORS.get(message["exit_code"], DeviceError)(message["error"])
        if "ready" in message:
            self._was_ready = True
            self._on_ready(message["ready"])
        else:
            self.metrics = MetricsSnapshot(**message.pop("metrics"))
            self.facts = message
        return None

    def _command(self, command: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(command)

    async def stop(self, keeping: "asyncio.Task[None]") -> None:
        """Stop the process in order. `keeping` is the task of `keep`."""
        self._is_stopping = True
        if self._process is None or self._process.returncode is not None:
            keeping.cancel()  # it waits to start the process again
        else:
            self._command(STOP)
        await asyncio.wait([keeping], timeout=_STOP_S)
        if not keeping.done():
            notes.note(f"the hub's {self._name} did not end within {_STOP_S} s and was killed")
            self.kill()
        await asyncio.wait([keeping])

    def kill(self) -> None:
        """Kill the process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def _end_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def serve(site: Path, shard: int | None, pcap: Path | None, ready: Ready) -> dict[str, Any]:
    """Run a hub of a site until a stop signal, and return its counters.

    Args:
        site: The site file.
        shard: Which hub of the site; None: the only one.
        pcap: File for a trace of the floor messages; None: no trace.
        ready: Called with the hub's addresses and sizes when everything is running.

    Raises:
        UserError: The hub cannot start.
    """
    arguments = [str(site)]
    if shard is not None:
        arguments += ["--shard", str(shard)]
    return asyncio.run(_serve(arguments, pcap, ready))


async def _serve(arguments: list[str], pcap: Path | None, ready: Ready) -> dict[str, Any]:
    announcement, starting = _Once(ready), asyncio.Lock()
    at_once, voice_ready = asyncio.Event(), asyncio.Event()
    at_once.set()
    voice_arguments = [*arguments, *(["--pcap", str(pcap)] if pcap else [])]
    voice = Half("voice", voice_arguments, 0, starting, at_once, lambda _: voice_ready.set())
    service = Half("service", arguments, _SERVICE_STEPS, starting, voice_ready, announcement.announce)
    with signals.stop_requested() as stop:
        keeping = {half: asyncio.ensure_future(half.keep()) for half in (service, voice)}
        try:
            ends: list[asyncio.Future[Any]] = [stop, *keeping.values()]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for half, task in keeping.items():  # the service first: its dispatchers leave the voice in order
                await half.stop(task)
            for result in await asyncio.gather(*keeping.values(), return_exceptions=True):
                if isinstance(result, Exception):
                    raise result
        finally:
            for half in keeping:
                half.kill()
    facts = {**voice.facts, **service.facts}
    return {**facts, **service.metrics.merged(voice.metrics).summary()}


class _Once:
    """Passes on the first call only."""

    def __init__(self, ready: Ready) -> None:
        self._ready, self._is_done = ready, False

    def announce(self, facts: dict[str, Any]) -> None:
        """Announce the hub, unless it was announced before."""
        if not self._is_done:
            self._is_done = True
            self._ready(facts)
