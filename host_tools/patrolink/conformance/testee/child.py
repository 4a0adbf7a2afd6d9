"""A program on pipes: bounded buffers, a deadline for every wait, and the end of all its processes."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, TypeVar

from patrolink.conformance.case import CLOSED_PIPE, CRASH, EARLY_END, FLOOD, HANG, START
from patrolink.conformance.testee.testee import STDERR_MAX_CHARS, Ending, TesteeFaultError
from patrolink.core.text import plural

OUTPUT_MAX_BYTES = 1 << 20
_CHUNK_BYTES = 65_536
_EXIT_WAIT_S = 1.0
_Result = TypeVar("_Result")


class Child:
    """A child process. Threads move data, so that neither side can block the kit.

    Args:
        command: Program and arguments; `start` runs it.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._condition = threading.Condition()
        self._output = bytearray()
        self._errors = bytearray()
        self._input = bytearray()
        self._closed = False  # standard output has ended
        self._refused = False  # standard input takes nothing any more
        self._stopping = False
        self._ending: Ending | None = None  # a second kill could meet a new process with the same number
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the program. If a stop signal interrupts this, `stop` ends it all the same.

        Raises:
            TesteeFaultError: It cannot be started.
        """
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise TesteeFaultError(START, f"{self._command[0]}: {reason}; name a program that can be run") from None
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None
        for target, stream in ((self._read_output, stdout), (self._read_errors, stderr), (self._write_input, stdin)):
            thread = threading.Thread(target=target, args=(stream,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _read_output(self, stream: IO[bytes]) -> None:
        with stream:
            while data := _read(stream.fileno()):
                with self._condition:
                    self._output += data
                    self._condition.notify_all()
                    # A program that floods is not read any further; its pipe fills up, and our memory does not.
                    self._condition.wait_for(lambda: self._stopping or len(self._output) <= OUTPUT_MAX_BYTES)
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream:
            while data := _read(stream.fileno()):
                with self._condition:
                    self._errors += data
                    del self._errors[:-STDERR_MAX_CHARS]

    def _write_input(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            while data := self._next_input():
                written = os.write(stream.fileno(), data)
                with self._condition:
                    del self._input[:written]
        with self._condition:
            self._refused = True

    def _next_input(self) -> bytes:
        """Wait for input; empty when the program is being stopped."""
        with self._condition:
            self._condition.wait_for(lambda: self._input or self._stopping)
            return b"" if self._stopping else bytes(self._input[:_CHUNK_BYTES])

    def write(self, data: bytes) -> None:
        """Queue data for the program's standard input.

        Raises:
            TesteeFaultError: The program reads nothing: too much is queued.
        """
        with self._condition:
            if len(self._input) > OUTPUT_MAX_BYTES:
                raise TesteeFaultError(HANG, "the program does not read its standard input")
            self._input += data
            self._condition.notify_all()

    def read(self, take: Callable[[bytearray], _Result | None], timeout_s: float) -> _Result:
        """Wait for output that must come.

        Args:
            take: Removes and returns a whole unit from the front of the buffer; None while it is incomplete.
            timeout_s: Longest time to wait.

        Raises:
            TesteeFaultError: Nothing complete came in time, the program has ended, or it floods.
        """
        result = self.poll(take, timeout_s)
        if result is None:
            with self._condition:
                if self._refused:
                    raise TesteeFaultError(CLOSED_PIPE, "the program closed its standard input and goes on running")
                raise TesteeFaultError(HANG, self._describe_wait(timeout_s))
        return result

    def poll(self, take: Callable[[bytearray], _Result | None], timeout_s: float) -> _Result | None:
        """Wait for output that may come; as `read`, but return None when the time is over."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while True:
                result = take(self._output)
                self._condition.notify_all()  # room for the reader
                if result is not None:
                    return result
                if len(self._output) > OUTPUT_MAX_BYTES:
                    raise TesteeFaultError(FLOOD, f"over {OUTPUT_MAX_BYTES} bytes without the end of an answer")
                if self._closed:
                    break
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return None
                self._condition.wait(left_s)
        raise self._ended()

    def _describe_wait(self, timeout_s: float) -> str:
        part = f"; {plural(len(self._output), 'byte')} of an answer that does not end" if self._output else ""
        unread = "; it does not read its standard input" if self._input else ""
        return f"no answer within {timeout_s:g} s{part}{unread}"

    def _ended(self) -> TesteeFaultError:
        """Return the fault of a program whose standard output has ended."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_WAIT_S)
        code = self._process.poll()
        if code is None:
            return TesteeFaultError(CLOSED_PIPE, "the program closed its standard output and goes on running")
        if code == 0:
            return TesteeFaultError(EARLY_END, "the program ended with exit code 0 before it answered")
        name = _signal_name(-code) if code < 0 else ""
        return TesteeFaultError(CRASH, f"ended by {name}" if name else f"ended with exit code {code}")

    def has_output(self) -> bool:
        """Return whether there is output that nobody has read."""
        with self._condition:
            return bool(self._output)

    def check(self) -> None:
        """Find a program that has ended or closed a pipe, whoever holds its pipes now.

        Raises:
            TesteeFaultError: It has.
        """
        assert self._process is not None
        if self._closed or self._process.poll() is not None:
            raise self._ended()
        if self._refused:
            raise TesteeFaultError(CLOSED_PIPE, "the program closed its standard input and goes on running")

    def stop(self) -> Ending:
        """End the program and all processes that it has started; return how it had ended before, if it had."""
        if self._ending is None:
            self._ending = self._end(self._process) if self._process is not None else Ending()
        return self._ending

    def _end(self, process: "subprocess.Popen[bytes]") -> Ending:
        code = process.poll()
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        for thread in self._threads:
            thread.join(_EXIT_WAIT_S)  # longer only if a process of another session holds the pipes
        with self._condition:
            text = bytes(self._errors).decode(errors="backslashreplace")[-STDERR_MAX_CHARS:]
        return Ending(code, text)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except (OSError, ValueError):
        return b""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
