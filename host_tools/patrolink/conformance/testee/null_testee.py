"""A program that answers at once: what it takes longer than nothing is the load of the machine."""

import sys
import threading
import time

from patrolink.conformance.testee.child import Child
from patrolink.conformance.testee.testee import TesteeFaultError

_ECHO = "import sys\nfor line in sys.stdin.buffer:\n sys.stdout.buffer.write(line); sys.stdout.buffer.flush()"
_INTERVAL_S = 0.02
_TIMEOUT_S = 60.0


class LoadMeter:
    """Asks a null testee from its construction until `stop`."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._worst_ms = 0
        self._child = Child([sys.executable, "-S", "-E", "-c", _ECHO])
        self._child.start()
        self._ask()  # its start is no delay
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        self._child.write(b"\n")
        self._child.read(lambda buffer: buffer.clear() or True if buffer else None, _TIMEOUT_S)  # type: ignore[func-returns-value]

    def _run(self) -> None:
        while True:
            begin_s = time.monotonic()
            ended = self._stopped.wait(_INTERVAL_S)
            try:
                self._ask()
            except TesteeFaultError:
                self._worst_ms = int(_TIMEOUT_S * 1000)
                return
            if ended:
                return
            late_ms = int((time.monotonic() - begin_s - _INTERVAL_S) * 1000)
            self._worst_ms = max(self._worst_ms, late_ms)

    def stop(self) -> int:
        """Return the longest delay in milliseconds."""
        self._stopped.set()
        self._thread.join(_TIMEOUT_S)
        self._child.stop()
        return self._worst_ms
