"""A child process whose output is read line by line, with a time limit, and which ends when the operator cancels."""

import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable

from patrolink.core.errors import DeadlineError
from patrolink.flash.records import CancelledError

_LOOK_S = 0.1
_LINES_MAX = 2000


def run(
    command: list[str],
    limit_s: float,
    cancel: threading.Event,
    on_line: Callable[[str], None],
) -> tuple[int, list[str]]:
    """Run a command and return its exit code and the last lines of its output, standard error included.

    Args:
        command: Program and arguments.
        limit_s: Time after which it is killed.
        cancel: Set when the operator stops the command.
        on_line: Called with each line; if it raises, the process is killed.

    Raises:
        DeadlineError: It did not end in time.
        CancelledError: `cancel` was set.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True, name="child output")
    reader.start()
    output: deque[str] = deque(maxlen=_LINES_MAX)
    deadline_s = time.monotonic() + limit_s
    try:
        while (line := _next(lines, process, cancel, deadline_s, limit_s)) is not None:
            output.append(line)
            on_line(line)
        return process.wait(max(_LOOK_S, deadline_s - time.monotonic())), list(output)
    except subprocess.TimeoutExpired:
        raise _too_late(process, limit_s) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(1)


def _next(
    lines: "queue.SimpleQueue[str | None]",
    process: "subprocess.Popen[str]",
    cancel: threading.Event,
    deadline_s: float,
    limit_s: float,
) -> str | None:
    """Return the next line, or None at the end of the output."""
    while True:
        if cancel.is_set():
            raise CancelledError
        if time.monotonic() > deadline_s:
            raise _too_late(process, limit_s)
        try:
            return lines.get(timeout=_LOOK_S)
        except queue.Empty:
            continue


def _too_late(process: "subprocess.Popen[str]", limit_s: float) -> DeadlineError:
    assert isinstance(process.args, list)
    return DeadlineError(
        f"{process.args[2]} did not end within {limit_s:.0f} s and was stopped; check cable and power of the device, "
        "then repeat the command"
    )


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:  # universal newlines: a carriage return ends a line too
            lines.put(line.rstrip("\n"))
    lines.put(None)
