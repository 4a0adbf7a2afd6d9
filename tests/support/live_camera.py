"""A device with a camera for the tests of live view: the agent's live view with drawn pictures."""

import itertools
import threading
import time
from collections.abc import Sequence

import patrolink_messages
import pytest
from agent.live_view import session
from compat.udp import UdpSocket
from hal.posix.h264_encoder import Encoder
from patrolink.core.clock import monotonic_ms
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.key_derivation import live_view_context

from tests.support import console_site, device_client, hub_process
from tests.support.drawn_pictures import drawn_pictures

FPS = {False: 5, True: 15}  # JPEG, H.264
_START, _STOP = 4, 5  # command.action
_STARTED, _REFUSED, _DONE = 1, 2, 0  # answer.result
MAX_KBPS = 600


class FaultlessCamera:
    """A camera without faults, for the agent's live view."""

    fault = ""


class NoSelector:
    """A selector that ignores the agent's sockets."""

    def add(self, sock) -> None:
        pass

    remove = add


class StreamRecorder:
    """Records the events of a `LiveStream`."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.pictures: list = []
        self.end_reasons: list[str] = []

    def on_start(self) -> None:
        pass

    def on_packet(self, packet: bytes) -> None:
        self.packets.append(packet)

    def on_picture(self, picture) -> None:
        self.pictures.append(picture)

    def on_end(self, reason: str) -> None:
        self.end_reasons.append(reason)


class CameraDevice:
    """A device with a camera. It runs in a thread until `close`.

    Args:
        broker: The MQTT broker.
        name: Name of the device.
        h264: Whether the camera has an H.264 encoder.

    Attributes:
        refusal: Text with which the device refuses to start a view; empty: it starts it.
        covered: Whether the camera delivers no pictures.
        failing: Whether the camera fails, so that the device ends its view.
        end_reasons: Reason for the end of each view.
    """

    def __init__(self, broker, name: str, h264: bool) -> None:
        self.client = device_client.DeviceClient(name, hub_process.LoopbackNetwork(broker.port))
        self.refusal = ""
        self.covered = self.failing = False
        self.end_reasons: list[str] = []
        self.fps, self._pictures = FPS[h264], itertools.cycle(drawn_pictures(h264))
        client = self.client

        def keys(label, command_id, expires_ms):
            context = live_view_context(command_id, expires_ms)
            return srtp.derive_master(client.key, b"patrolink-live-" + label, client.epoch, context)

        self.live = session.LiveView(
            lambda host, port: UdpSocket(host, port, NoSelector()),
            encrypter,
            keys,
            lambda text: None,
            FaultlessCamera(),
            MAX_KBPS,
            Encoder(640, 480, self.fps) if h264 else None,
        )
        self._handled_commands = 0
        self._stop = self._running = False
        client.send_hello()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due_ms = monotonic_ms()
        while not self._stop:
            self.client.process()
            self._handle(self.client.commands[self._handled_commands :])
            if monotonic_ms() >= due_ms:
                due_ms += 1000 // self.fps
                if not self.covered:
                    self.live.picture(next(self._pictures), monotonic_ms())
            if self.failing:
                self.live.stop("camera failed", monotonic_ms())
            self.live.serve(monotonic_ms())
            self._record_end()
            time.sleep(0.004)

    def _record_end(self) -> None:
        if self._running and not self.live.running():
            self.end_reasons.append(self.live.end_reason)
        self._running = self.live.running()

    def _handle(self, commands: Sequence[dict]) -> None:
        for command in commands:
            self._handled_commands += 1
            result, text = self._execute(command)
            answer = {"command_id": command["command_id"], "result": result, "time_ms": int(time.time() * 1000)}
            self.client.send_message(patrolink_messages.ANSWER, {**answer, "ref": None, "text": text.encode()})

    def _execute(self, command: dict) -> tuple[int, str]:
        if command["action"] == _STOP:
            self.live.stop("stopped by the hub", monotonic_ms())
        if command["action"] != _START:
            return _DONE, ""
        if self.refusal:
            return _REFUSED, self.refusal
        host, _, port = command["value"].rpartition(":")
        started, text = self.live.start(command, host, int(port), monotonic_ms())
        self._running = self._running or started
        return _STARTED if started else _REFUSED, text

    def close(self) -> None:
        """Stop the thread and disconnect."""
        self._stop = True
        self._thread.join()
        self.live.stop("the test is over", monotonic_ms())
        self._record_end()
        self.client.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, broker):
    """A hub with live view and a console."""
    live_port = hub_process.free_ports(1)[0]
    console = console_site.ConsoleSite(tmp_path_factory.mktemp("site"), broker, hub=f"live_port = {live_port}")
    yield console
    console.process.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["jpeg", "h264"])
def camera(request, site, broker):
    """A device at that hub, once with a JPEG camera and once with an H.264 camera."""
    device = CameraDevice(broker, "vest-2" if request.param else "vest-1", request.param)
    yield device
    device.close()
