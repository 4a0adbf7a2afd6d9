"""The parts of the recording side, put together, on a board that has a camera and the site's evidence key."""

import patrolink_messages as m
from agent.live_view.controller import LiveViewController
from agent.recording.clip_recorder import ClipRecorder
from agent.recording.clip_store import ClipStore
from agent.recording.controller import Recording, RecordingController
from agent.recording.ring_recorder import RingRecorder
from agent.recording.signer import Signer

_LIVE_KBPS = 600
_LINE_PACKET = 1024  # bytes of a datagram: as long as what a stream puts on a modem's UART at once
_BAUD = 115200
_PICTURE_KB = 16


def load(config):
    """Compile what this configuration will want, while the heap is empty."""
    if config["camera"].get("kind") == "vc0706":
        import agent.live_view.rtp_jpeg
        import agent.recording.avi
        import agent.recording.vc0706
    if config["clips"]["upload"]:
        import agent.upload.uploader
    if config.get("modem"):
        import agent.modem.datagrams
    import agent.live_view.session  # noqa: F401

    try:
        import cryptolib  # noqa: F401 - only where compat.crypto uses p256
    except ImportError:
        return
    import compat.p256  # noqa: F401


class _StampSource:
    """What is stamped on a picture."""

    def __init__(self, reporter):
        self._reporter = reporter

    def place(self, mono_ms):
        """Return (unix ms or 0, latitude, longitude in 1e-7 degrees or None)."""
        lat_e7, lon_e7 = self._reporter.place() or (None, None)
        return self._reporter.unix_ms(mono_ms) or 0, lat_e7, lon_e7


class _RecordingBuilder:
    """Builds the Recording of a device, again each time that storage could not be read."""

    def __init__(self, device, config, hal, store, boot, microphone, viewer):
        self._device = device
        self._config = config
        self._hal = hal
        self._store = store
        self._boot = boot
        self._microphone = microphone
        self._viewer = viewer
        sound = microphone is not None and config["clips"]["sound"] != "never"
        self._film = _film(hal, config, device.camera, sound, _StampSource(device.reporter))

    def build(self, on_low, on_sealed):
        """Return a Recording. Raises OSError."""
        config, clips = self._config, self._config["clips"]
        files = self._hal.clip_storage(clips["dir"])
        signer = Signer(self._store)
        store = ClipStore(
            files, self._store, signer, clips, config["device"], self._boot, self._unix, on_low, on_sealed
        )
        container, jpeg, camera = self._film
        key = clips["evidence_key"]
        ring_recorder = RingRecorder(
            store, camera, container, jpeg, key, clips, self._unix, self._clock_source, self._microphone
        )
        recorder = ClipRecorder(store, ring_recorder, clips, self._unix, self._viewer)
        uploader = None
        if clips["upload"]:
            uploader = _uploader(self._device, config, store.uploads, self._unix, self._hal)
        return Recording(store, recorder, ring_recorder, uploader)

    def _unix(self, mono_ms):
        return self._device.reporter.unix_ms(mono_ms) or 0

    def _clock_source(self):
        return self._device.reporter.time_source


class Evidence:
    """Recording and live view of a device with a camera and the site's evidence key."""

    def __init__(self, device, config, hal, store, boot, microphone):
        self._device = device
        reporter, commands, now_ms = device.reporter, device.commands, device.now_ms
        live_view = _live_view(device, config, hal)
        build = _RecordingBuilder(device, config, hal, store, boot, microphone, live_view).build
        self.recording = RecordingController(
            build, reporter, device.net, device.outbox, commands.answer, device.camera, now_ms, device.log
        )
        commands.duties.update(self.recording.commands())
        self.live_view = None
        if live_view is not None:
            self.live_view = LiveViewController(live_view, self.recording, reporter, now_ms)
            commands.duties.update(self.live_view.commands())
        device.downlink.duties[m.CLIP_STATE] = self.recording.on_clip_state

    @property
    def profiles(self):
        """Bits of hello.profiles: video, live view."""
        return 4 | (8 if self.live_view is not None else 0)

    def serve(self, now):
        """Continue recording and live view. Returns the ms after which it wants to be called again."""
        wait_ms = self.recording.serve(now)
        if self.live_view is not None and self.recording.is_ready:
            wait_ms = min(wait_ms, self.live_view.serve(now))
        return wait_ms

    def upload(self, now):
        """Upload a little. Returns the ms after which more is due."""
        radio, events = self._device.radio, self._device.events
        return self.recording.upload(now, radio is not None and radio.is_busy(), events.due_count() > 0)

    def close(self, now):
        """The device is switched off."""
        if self.live_view is not None:
            self.live_view.close(now)
        self.recording.close(now)


def _live_view(device, config, hal):
    """Return the LiveView, None without UDP sockets."""
    udp = _datagrams(device, hal)
    if udp is None:
        return None
    from agent.live_view.session import PACKET_MAX, LiveView, LiveViewKeys
    from compat import aes

    given = config.get("modem")
    film = _filmed(hal, config)
    camera = device.camera
    return LiveView(
        udp,
        aes.encrypter,
        LiveViewKeys(config["key"], device.downlink.epoch).derive,
        device.log,
        camera,
        min(_LIVE_KBPS, _line_kbps(given["uart"])) if given else _LIVE_KBPS,
        film.Encoder(camera.width, camera.height, camera.fps) if film else None,
        lambda: device.events.due_count() > 0 or device.radio is not None and device.radio.is_busy(),
        _LINE_PACKET if given else PACKET_MAX,
        config["camera"].get("picture_kb", _PICTURE_KB) * 1024,
    )


def _datagrams(device, hal):
    """Return function(host, port) -> UDP socket, the modem's or the board's own; None where there is neither."""
    if device.modem:
        return device.modem.udp
    if not hasattr(hal, "audio"):
        return None
    sound = hal.audio()
    return lambda host, port: sound.Udp(host, port, device.inputs)


def _line_kbps(uart):
    """What a view may take of a modem's UART: seven tenths, for the session and the clips go the same way."""
    baud = uart.get("baudrate", _BAUD) if isinstance(uart, dict) else _BAUD
    return baud * 7 // 12500


def _filmed(hal, config):
    """Return the platform's room for pictures that are arrays, None where the camera gives JPEGs."""
    return None if config["camera"].get("kind") == "vc0706" else hal.video()


def _film(hal, config, camera, sound, stamp_source):
    """Return (container, what makes a JPEG of a picture, the camera with its stamp)."""
    film = _filmed(hal, config)
    if film is None:
        from agent.recording.avi import AviMuxer

        config["clips"]["stamp"] = False
        return AviMuxer(camera.width, camera.height, camera.fps, sound), lambda picture: picture, camera
    container = film.H264Muxer(camera.width, camera.height, camera.fps, sound=sound)
    if config["clips"]["stamp"]:
        camera = film.StampedCamera(camera, config["device"], stamp_source.place)
    return container, film.encode_jpeg, camera


def _uploader(device, config, uploads, unix, hal):
    from agent.link.backoff import Backoff
    from agent.upload.tus import TusClient
    from agent.upload.uploader import Uploader, UploadNetwork

    given = config["clips"]["upload"]
    way = UploadNetwork(
        device.now_ms, device.serve, device.raw(given["tls"], "clips.upload.tls"), device.events.due_count
    )
    host = "%s:%d" % (given["host"], given["port"])
    client = TusClient(config["key"], config["device"].encode(), config["key_epoch"], host, given["path"])
    faults = device.session.faults + device.modem.faults if device.modem else device.session.faults
    where = (given["host"], given["port"])
    return Uploader(uploads, client, way, where, given["kbps"], unix, Backoff(hal.randbelow), device.log, faults)
