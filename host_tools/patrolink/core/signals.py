"""Stop signals: SIGINT, SIGTERM and SIGHUP end a command in order, whether it waits in a thread or in asyncio.

`patrolink.cli.main` runs every verb under `raise_on_stop`. A verb that runs until stopped catches `StopSignal`, prints
its summary and returns its usual exit code. A verb whose work is cut short lets the signal pass: the exit code is 128
plus the signal number, as in a shell.

SIGINT is handled even if it was inherited as ignored, as in a background job of a non-interactive shell. SIGHUP stays
ignored if it was: nohup(1) asks for that. Only the first signal counts; later ones are ignored while the command cleans
up, because GNU timeout and terminals may send the same signal twice.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio  # imported where it is used: it takes as long as the rest of the start-up

_T = TypeVar("_T")
_STOP_SIGNALS = [  # Windows has no SIGHUP
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopSignal(KeyboardInterrupt):
    """A stop signal was received.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code of a command that a signal cut short."""
        return 128 + self.number


def _stop_signals() -> list[signal.Signals]:
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, hangup]


@contextlib.contextmanager
def _handlers(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the number of the first stop signal; restore the previous handlers at the end.

    Python delivers signals to the main thread only: in any other thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if not received:
            received = True
            act(number)

    previous = {number: signal.signal(number, handle) for number in _stop_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(number: int) -> None:
    raise StopSignal(number)


@contextlib.contextmanager
def raise_on_stop() -> Iterator[None]:
    """Raise `StopSignal` in the main thread when a stop signal arrives."""
    with _handlers(_raise):
        yield


@contextlib.contextmanager
def stop_deferred() -> Iterator[None]:
    """Hold a stop signal back until the end of the block, where it takes effect.

    For starting something and registering its end: a signal between the two would leave it running.
    """
    received: list[int] = []
    try:
        with _handlers(received.append):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block stop signals, also for a process that is started within the block, until that calls `ignore`.

    Blocks must not overlap: the end of one restores what its begin has found.
    """
    if hasattr(signal, "pthread_sigmask"):
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    else:
        yield


def ignore() -> None:
    """Ignore stop signals from now on, in a process that may have been started with them blocked."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


@contextlib.contextmanager
def stop_requested() -> "Iterator[asyncio.Future[StopSignal]]":
    """Yield a future of the running loop that is done, with the `StopSignal`, when the first stop signal arrives."""
    import asyncio

    loop = asyncio.get_running_loop()
    requested: asyncio.Future[StopSignal] = loop.create_future()

    def request(number: int) -> None:
        loop.call_soon_threadsafe(requested.set_result, StopSignal(number))

    with _handlers(request):
        yield requested


def run(job: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine as `asyncio.run` does, and cancel it on a stop signal.

    Returns:
        The coroutine's result.

    Raises:
        StopSignal: a signal was received and the coroutine ended by the cancellation.
    """
    import asyncio

    received: list[int] = []

    async def cancellable() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(job)

        def cancel(number: int) -> None:
            received.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with _handlers(cancel):
            return await task

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        if received:
            raise StopSignal(received[0]) from None
        raise
