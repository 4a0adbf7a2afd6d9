"""A device behind a broker: topics p/<device>/u and p/<device>/d (SPEC.md, "Carriage")."""

import time
from collections.abc import Callable, Iterator, Mapping

from patrolink.conformance.case import START
from patrolink.conformance.schedule import BROKER
from patrolink.conformance.testee.device_testee import DeviceTestee
from patrolink.conformance.testee.testee import Ending, TesteeFaultError
from patrolink.core.capture import Record
from patrolink.core.errors import DeadlineError, ServerError
from patrolink.transport.mqtt import MqttTransport


class BrokerDevice(DeviceTestee):
    """A device with a session at a broker.

    Args:
        url: URL of the broker.
        device: Device id.
        monotonic_ms: Clock.
        stimuli: Name of a stimulus → command.
    """

    def __init__(
        self, url: str, device: str, monotonic_ms: Callable[[], int], stimuli: Mapping[str, list[str]]
    ) -> None:
        super().__init__(monotonic_ms, stimuli)
        self._url = url
        self._device = device
        self._transport: MqttTransport | None = None
        self._records: Iterator[Record | None] = iter(())

    def describe(self) -> dict[str, str]:
        """Return URL and device id; the device behind the broker has no hash."""
        return {"target": f"{self._url}/{self._device}", "sha256": "", "version": "", "carriage": BROKER}

    def start(self) -> None:
        """Connect to the broker.

        Raises:
            TesteeFaultError: It cannot be reached.
        """
        try:
            self._transport = MqttTransport(self._url)
        except (ServerError, DeadlineError) as e:
            raise TesteeFaultError(START, str(e)) from None
        self._records = self._transport.records()

    def stop(self) -> Ending:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        return Ending()

    def write_frame(self, frame: bytes) -> None:
        """Publish a frame for the device."""
        self.write_raw(frame)

    def write_raw(self, data: bytes) -> None:
        """Publish bytes for the device.

        Raises:
            DeadlineError: The broker did not acknowledge them; that is no fault of the device.
        """
        assert self._transport is not None
        self._transport.publish(self._device, data)

    def settle(self) -> None:
        """End a case: this carriage does not show whether the device is gone."""

    def next_arrival(self, timeout_ms: int) -> str | None:
        """Return the next frame of the device; None if none has come within this time (and at most 0.2 s more)."""
        deadline_s = time.monotonic() + timeout_ms / 1000
        for record in self._records:
            if record is not None and record.device == self._device:
                return record.frame.hex()
            if time.monotonic() >= deadline_s:
                return None
        return None
