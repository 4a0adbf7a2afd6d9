"""A device with a camera at a hub's broker: its live view is the agent's own, its pictures are drawn."""

import io
import itertools
import threading
import time

import numpy
import patrolink_messages
import pytest
from agent.live_view import session
from compat.aes import encrypter
from compat.udp import UdpSocket
from hal.posix.h264_encoder import Encoder
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import live_view_context
from PIL import Image

from tests.support import console_site, hub_process

FPS = {False: 5, True: 15}  # JPEG, H.264
_START, _STOP = 4, 5  # command.action
_STARTED, _REFUSED, _DONE = 1, 2, 0  # answer.result
KBPS = 600


class Eye:
    fault = ""


class Inputs:
    def add(self, it) -> None:
        pass

    remove = add


def films(h264: bool, n: int = 30) -> list:
    """Pictures with something red that moves before a still ground."""
    size = (640, 480) if h264 else (320, 240)
    ground = Image.effect_noise((size[0] // 8, size[1] // 8), 30).resize(size).convert("RGB")
    out = []
    for i in range(n):
        picture = ground.copy()
        picture.paste((200, 60, 60), (10 * i % size[0], 80, 10 * i % size[0] + 60, 200))
        if h264:
            out.append(numpy.asarray(picture)[:, :, ::-1].copy())
        else:
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=70)
            out.append(data.getvalue())
    return out


class Camera:
    """Runs in a thread until `close`.

    refuses  why it begins no view
    covered  it gives no picture
    tired    it ends its view
    ends     why its views ended
    """

    def __init__(self, broker, name: str, h264: bool) -> None:
        self.client = hub_process.Client(name, broker.port)
        self.refuses = ""
        self.covered = self.tired = False
        self.ends: list[str] = []
        self.fps, self._films = FPS[h264], itertools.cycle(films(h264))
        client = self.client

        def keys(label, command_id, expires_ms):
            context = live_view_context(command_id, expires_ms)
            return srtp.derive_master(client.key, b"patrolink-live-" + label, client.epoch, context)

        self.live = session.LiveView(
            lambda host, port: UdpSocket(host, port, Inputs()),
            encrypter,
            keys,
            lambda text: None,
            Eye(),
            KBPS,
            Encoder(640, 480, self.fps) if h264 else None,
            None,
            self.ends.append,
        )
        self._done = 0  # commands
        self._stop = False
        client.hello()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = hub_process.Client.now()
        while not self._stop:
            self.client.pump()
            for command in self.client.commands[self._done :]:
                self._carry_out(command)
                self._done += 1
            if hub_process.Client.now() >= due:
                due += 1000 // self.fps
                if not self.covered:
                    self.live.picture(next(self._films), hub_process.Client.now())
            if self.tired:
                self.live.stop("tired", hub_process.Client.now())
            self.live.serve(hub_process.Client.now())
            time.sleep(0.004)

    def _carry_out(self, command: dict) -> None:
        result, text = _DONE, ""
        if command["action"] == _START:
            host, _, port = command["value"].rpartition(":")
            if self.refuses:
                result, text = _REFUSED, self.refuses
            else:
                begun, text = self.live.start(command, host, int(port), hub_process.Client.now())
                result = _STARTED if begun else _REFUSED
        elif command["action"] == _STOP:
            self.live.stop("told to", hub_process.Client.now())
        answer = {"command_id": command["command_id"], "result": result, "time_ms": int(time.time() * 1000)}
        self.client.uplink(patrolink_messages.ANSWER, {**answer, "ref": None, "text": text.encode()})

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self.live.stop("the test is over", hub_process.Client.now())
        self.client.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, broker):
    """A hub that takes live view, with its console."""
    it = console_site.ConsoleSite(
        tmp_path_factory.mktemp("site"), broker, hub=f"live_port = {hub_process.free_ports(1)[0]}"
    )
    yield it
    it.process.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["jpeg", "h264"])
def camera(request, site, broker):
    """A device with a camera of each kind at that hub."""
    it = Camera(broker, "vest-2" if request.param else "vest-1", request.param)
    yield it
    it.close()
