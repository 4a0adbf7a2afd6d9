"""An asyncio event loop on a virtual clock, for host code inside a simulation.

Callbacks and timers are actions of the simulation's scheduler. Work for threads runs at once, in the order in which it
was requested, so that a seed repeats a run. Sockets are those of `virtual_udp` and `virtual_tcp` in `emulator.network`.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Protocol

from patrolink.emulator.network.virtual_tcp import Endpoint, Listener, StreamTransport
from patrolink.emulator.scheduler import Scheduler


class ReadableSocket(Protocol):
    """A virtual socket."""

    on_readable: Callable[[], None] | None

    @property
    def readable(self) -> bool:
        """Whether data waits."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """Event loop of one simulated process.

    Args:
        scheduler: Virtual clock.
        on_exception: Called with the context of an exception that nobody handles.
    """

    def __init__(self, scheduler: Scheduler, on_exception: Callable[[dict[str, Any]], None]) -> None:
        self._scheduler, self._on_exception = scheduler, on_exception
        self._alive = True
        self._ready_pending: set[int] = set()  # sockets whose callback is scheduled
        self._busy_until_ms = 0.0  # the process blocks until then
        self._thread_ms: float | None = None  # time that the work for a thread has taken; None outside
        self._tasks: set[asyncio.Task[Any]] = set()  # kept: no destructor of a killed process may run

    def kill(self) -> None:
        """End the process as SIGKILL does: nothing of it runs any more, not even clean-up."""
        self._alive = False

    def drop_tasks(self) -> None:
        """Close all coroutines, and those that their clean-up starts."""
        self._alive = False
        asyncio._set_running_loop(self)
        while self._tasks:
            task = self._tasks.pop()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                task.get_coro().close()
        asyncio._set_running_loop(None)

    def _run(self, handle: asyncio.Handle) -> None:
        if not self._alive or handle.cancelled():
            return
        if self._busy_until_ms > self._scheduler.now:
            self._scheduler.at(self._busy_until_ms, functools.partial(self._run, handle))
        else:
            asyncio._set_running_loop(self)
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)

    def spend(self, ms: float) -> None:
        """Let what runs now take time: the process blocks, or the work for a thread ends later."""
        if self._thread_ms is not None:
            self._thread_ms += ms
        else:
            self._busy_until_ms = max(self._busy_until_ms, self._scheduler.now) + ms

    # --- callbacks and timers -----------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._scheduler.now / 1000

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback after those that are ready; see asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._scheduler.after(0, functools.partial(self._run, handle))
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after a delay in seconds; see asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of the loop's clock; see asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._scheduler.at(when * 1000, functools.partial(self._run, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is skipped when it is due."""

    # --- futures and tasks --------------------------------------------------------------------------------------------

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a new future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> "asyncio.Task[Any]":
        """Schedule a coroutine; see asyncio."""
        task = asyncio.Task(coro, loop=self, **kwargs)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Run a function now; the future is done when the function has taken its time, in the next turn at once."""
        future = self.create_future()
        self._thread_ms = 0.0
        try:
            result = func(*args)
        except Exception as e:
            self.call_later(self._thread_ms / 1000, _set_exception, future, e)
        else:
            self.call_later(self._thread_ms / 1000, _set_result, future, result)
        finally:
            self._thread_ms = None
        return future

    # --- sockets ------------------------------------------------------------------------------------------------------

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Call a callback while a virtual socket is readable."""
        fd.on_readable = functools.partial(self._on_readable, fd, callback, args)
        if fd.readable:
            fd.on_readable()

    def remove_reader(self, fd: Any) -> bool:
        """Stop to watch a virtual socket."""
        watched = fd.on_readable is not None
        fd.on_readable = None
        return watched

    def _on_readable(self, sock: ReadableSocket, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if id(sock) not in self._ready_pending:
            self._ready_pending.add(id(sock))
            self.call_soon(self._read, sock, callback, args)

    def _read(self, sock: ReadableSocket, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._ready_pending.discard(id(sock))
        if sock.on_readable is not None:
            callback(*args)
            if sock.on_readable is not None and sock.readable:
                sock.on_readable()

    async def sock_accept(self, sock: Listener) -> tuple[Endpoint, Any]:  # type: ignore[override]
        """Wait for a connection; see asyncio."""
        return await sock.accept()

    async def connect_accepted_socket(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], sock: Endpoint, *, ssl: None, **kwargs: Any
    ) -> tuple[StreamTransport, Any]:
        """Serve a connection without TLS; see asyncio."""
        protocol = protocol_factory()
        return StreamTransport(self, protocol, sock), protocol

    # --- state --------------------------------------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an exception that nobody handles."""
        if self._alive:
            self._on_exception(context)

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Return whether the process lives."""
        return self._alive

    def is_closed(self) -> bool:
        """Return whether the process has ended."""
        return not self._alive


def _set_result(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def dispose(loops: Iterable[VirtualLoop]) -> None:
    """Drop what is left of processes that have ended. Takes long: a garbage collection.

    Python runs the clean-up of coroutines when it drops them. It cannot have an effect any more, and what it raises has
    no meaning.
    """
    report, disabled = sys.unraisablehook, logging.root.manager.disable
    sys.unraisablehook = _ignore
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for loop in loops:
                loop.drop_tasks()
            gc.collect()
    finally:
        sys.unraisablehook = report
        logging.disable(disabled)


def _ignore(unraisable: object) -> None:
    """Report nothing."""
