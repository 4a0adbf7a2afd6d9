"""Commands of `patrolink` on virtual time, as clients of a simulated site.

Each command runs `patrolink.cli.main` in a greenlet, with output, token and signals of its own. While its event loop
runs, the greenlet waits; time passes in the site's `run_until`.
"""

import asyncio
import contextlib
import io
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import greenlet
import pytest
from patrolink.cli import main
from patrolink.core import signals
from patrolink.emulator.virtual_loop import VirtualLoop

from tests.support.simulated_network import SimulatedNetwork, VirtualConnector
from tests.support.simulated_site import CONSOLE_URL
from tests.support.site_file import TOKEN

_commands: dict[greenlet.greenlet, "SimulatedCommand"] = {}


class _CommandLoop(VirtualLoop):
    """Event loop of a command: its callbacks print to the command's output."""

    def __init__(self, command: "SimulatedCommand") -> None:
        super().__init__(command.network.scheduler, command.on_exception)
        self.command = command

    def _run(self, handle: asyncio.Handle) -> None:
        with self.command.surroundings():
            super()._run(handle)


class SimulatedCommand:
    """A command that runs.

    Args:
        network: The site.
        arguments: Arguments of `patrolink`.
        token: The dispatcher's token.

    Attributes:
        exit_code: Its exit code; None while it runs.
    """

    def __init__(self, network: SimulatedNetwork, arguments: tuple[str, ...], token: str) -> None:
        self.network, self._arguments, self._token = network, arguments, token
        self._out, self._err = io.StringIO(), io.StringIO()
        self.exit_code: int | None = None
        self._signal_handlers: list[Callable[[int], None]] = []
        self._waits_for: asyncio.Task[Any] | None = None
        self._loops: list[_CommandLoop] = []
        self._connectors: list[VirtualConnector] = []
        self._greenlet = greenlet.greenlet(self._main)
        _commands[self._greenlet] = self
        self._resume()

    @property
    def out(self) -> str:
        """What it has printed on standard output."""
        return self._out.getvalue()

    @property
    def err(self) -> str:
        """What it has printed on standard error."""
        return self._err.getvalue()

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """Give the code that runs the command's output and environment."""
        with contextlib.redirect_stdout(self._out), contextlib.redirect_stderr(self._err):
            earlier = os.environ.get("PATROLINK_HUB_TOKEN")
            os.environ["PATROLINK_HUB_TOKEN"] = self._token
            try:
                yield
            finally:
                os.environ.pop("PATROLINK_HUB_TOKEN")
                if earlier is not None:
                    os.environ["PATROLINK_HUB_TOKEN"] = earlier

    def on_exception(self, context: dict[str, Any]) -> None:
        """Print an exception that nobody handles."""
        self._err.write(f"Traceback: {context}\n")

    def _main(self) -> None:
        try:
            self.exit_code = main(list(self._arguments))
        except SystemExit as e:
            self.exit_code = e.code

    def _resume(self) -> None:
        with self.surroundings():
            self._greenlet.switch()

    def process(self) -> None:
        """Go on if its event loop has ended."""
        while self._waits_for is not None and self._waits_for.done():
            self._waits_for = None
            self._resume()

    def run_loop(self, job: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine (`asyncio.run`)."""
        loop = _CommandLoop(self)
        self._loops.append(loop)
        task = loop.create_task(job)
        self._wait_for(task)
        for other in list(loop._tasks):
            other.cancel()
        if loop._tasks:
            self._wait_for(loop.create_task(_settle(list(loop._tasks))))
        loop.kill()
        return task.result()

    def _wait_for(self, task: "asyncio.Task[Any]") -> None:
        self._waits_for = task
        self._greenlet.parent.switch()

    @contextlib.contextmanager
    def handle_signals(self, act: Callable[[int], None]) -> Iterator[None]:
        """Call `act` with the number of a stop signal (`signals._handlers`)."""
        self._signal_handlers.append(act)
        try:
            yield
        finally:
            self._signal_handlers.remove(act)

    def open_connector(self) -> VirtualConnector:
        """Return a connector of a HTTP client (`aiohttp.TCPConnector`)."""
        self._connectors.append(VirtualConnector(self.network.tcp))
        return self._connectors[-1]

    def send_signal(self, number: int) -> None:
        """Send a stop signal."""
        self._signal_handlers[-1](number)

    def kill(self) -> None:
        """End the command at once, as SIGKILL does: its connections are closed."""
        for loop in self._loops:
            self.network.kill(loop)
        for connector in self._connectors:
            connector.kill()
        self._waits_for = None

    def wait(self) -> tuple[int, str, str]:
        """Wait until it ends; return exit code, standard output and standard error."""
        self.network.run_until(lambda: self.exit_code is not None, lambda: self.out + self.err)
        return self.exit_code, self.out, self.err


async def _settle(tasks: "list[asyncio.Task[Any]]") -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _current() -> SimulatedCommand:
    """Return the command whose code runs, in its greenlet or on its event loop."""
    loop = asyncio._get_running_loop()
    return loop.command if isinstance(loop, _CommandLoop) else _commands[greenlet.getcurrent()]


class Commands:
    """Starts commands as clients of the console of a site."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network

    def start(self, *arguments: str, token: str = TOKEN, hub: str = CONSOLE_URL) -> SimulatedCommand:
        """Start a command."""
        command = (*arguments, "--hub", hub)
        return self._network.add_device(SimulatedCommand(self._network, command, token))

    def run(self, *arguments: str, **options: str) -> tuple[int, str, str]:
        """Run a command; return exit code, standard output and standard error."""
        return self.start(*arguments, **options).wait()


@pytest.fixture
def commands(site, monkeypatch):
    """Commands at the simulated `site` of the module."""
    monkeypatch.setattr(asyncio, "run", lambda job: _current().run_loop(job))
    monkeypatch.setattr(signals, "_handlers", lambda act: _current().handle_signals(act))
    monkeypatch.setattr("aiohttp.client.TCPConnector", lambda **options: _current().open_connector())
    yield Commands(site)
    _commands.clear()
