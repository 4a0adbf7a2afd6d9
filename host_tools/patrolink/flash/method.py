"""The contract of all methods: identify, plan, write, verify, release; and provision, where the console is reached.

A method object belongs to one device and one thread. Every wait in it has a deadline, and ends early when `cancel` is
set. It raises RefusedError if the image must not be written to this device, CancelledError after a cancellation, and
another UserError if it failed; the runner may then try again with a new object.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from patrolink.flash.records import Assignment, CancelledError, Identity, Plan, RefusedError

Report = Callable[[int, int], None]  # bytes done, bytes to do
Factory = Callable[[str, threading.Event], "Method"]  # path of the port, cancel


class Method(ABC):
    """A way to write an image to the device on a port.

    Args:
        port: Path of the port.
        cancel: Set when the operator stops the command.
    """

    def __init__(self, port: str, cancel: threading.Event) -> None:
        self.port = port
        self._cancel = cancel

    def check_cancelled(self) -> None:
        """Raise CancelledError if the operator has stopped the command."""
        if self._cancel.is_set():
            raise CancelledError

    @abstractmethod
    def identify(self) -> Identity:
        """Return what the device says of itself, read from it now."""

    @abstractmethod
    def plan(self, identity: Identity) -> Plan:
        """Return what would be written.

        Raises:
            RefusedError: The image does not fit this device. Nothing was erased.
        """

    @abstractmethod
    def write(self, plan: Plan, report: Report) -> None:
        """Write the image; `report` gets the progress."""

    @abstractmethod
    def verify(self, plan: Plan) -> None:
        """Read back what was written.

        Raises:
            DeviceError: It differs from the image.
        """

    def provision(self, assignment: Assignment) -> bool:
        """Write the configuration of the device, and read it back.

        Returns:
            Whether it has changed.

        Raises:
            RefusedError: This method does not reach the device's file system.
        """
        raise RefusedError(f"{self.port}: this method writes no configuration; use the method serial")

    @abstractmethod
    def release(self) -> None:
        """Start the device with its new image."""

    @abstractmethod
    def close(self) -> None:
        """Close the port; may be called at any time, and twice."""
