"""Recording, on a board with a camera and the site's evidence key. Loaded only where it is configured."""

from collections import namedtuple

from agent.recording.clip_recorder import ClipRecorder
from agent.recording.clip_store import ClipStore
from agent.recording.controller import Recording, RecordingController
from agent.recording.ring_recorder import RingRecorder
from agent.recording.signer import Signer
from app.errors import ConfigError

# Container of the clips, function that encodes a picture as JPEG, and the camera, with its stamp where there is one.
Video = namedtuple("Video", ("container", "encode_jpeg", "camera"))


def preload(config):
    """Import the modules that this configuration needs: compiling them takes heap that is free only at the start."""
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


class _RecordingBuilder:
    """Builds the Recording of a device; again whenever storage could not be read."""

    def __init__(self, config, hal, store, boot, video, microphone, viewer, upload, reporter):
        self._config = config
        self._hal = hal
        self._store = store
        self._boot = boot
        self._video = video
        self._microphone = microphone
        self._viewer = viewer
        self._upload = upload
        self._reporter = reporter

    def build(self, on_low, on_sealed):
        """Return a Recording. Raises OSError."""
        config, clips = self._config, self._config["clips"]
        files = self._hal.clip_storage(clips["dir"])
        signer = Signer(self._store)
        store = ClipStore(
            files, self._store, signer, clips, config["device"], self._boot, self._unix_ms, on_low, on_sealed
        )
        ring_recorder = RingRecorder(
            store,
            self._video.camera,
            self._video.container,
            self._video.encode_jpeg,
            clips["evidence_key"],
            clips,
            self._unix_ms,
            self._time_source,
            self._microphone,
        )
        recorder = ClipRecorder(store, ring_recorder, clips, self._unix_ms, self._viewer)
        uploader = self._upload.build(store.uploads, self._unix_ms) if self._upload is not None else None
        return Recording(store, recorder, ring_recorder, uploader)

    def _unix_ms(self, mono_ms):
        return self._reporter.unix_ms(mono_ms) or 0

    def _time_source(self):
        return self._reporter.time_source


class _Stamp:
    """Time and position that are drawn into the pictures."""

    def __init__(self, reporter):
        self._reporter = reporter

    def at(self, mono_ms):
        """Return (unix ms or 0, latitude and longitude in 1e-7 degrees or None)."""
        lat_e7, lon_e7 = self._reporter.position() or (None, None)
        return self._reporter.unix_ms(mono_ms) or 0, lat_e7, lon_e7


def _unchanged(picture):
    return picture  # pictures of a vc0706 are JPEGs


def _build_video(config, hal, camera, with_sound, reporter):
    if config["camera"].get("kind") == "vc0706":
        from agent.recording.avi import AviMuxer

        config["clips"]["stamp"] = False
        return Video(AviMuxer(camera.width, camera.height, camera.fps, with_sound), _unchanged, camera)
    video = hal.video()
    container = video.H264Muxer(camera.width, camera.height, camera.fps, sound=with_sound)
    if config["clips"]["stamp"]:
        camera = video.StampedCamera(camera, config["device"], _Stamp(reporter).at)
    return Video(container, video.encode_jpeg, camera)


def build_recording(
    config, hal, store, boot, camera, microphone, viewer, upload, reporter, net, outbox, answer, now_ms, log
):
    """Return the agent.recording.controller.RecordingController of a device.

    Args:
        config: The device configuration.
        hal: The platform.
        store: hal Store of the signer's key and the clip number.
        boot: Number of this boot.
        camera: hal camera.
        microphone: Tap of the MicrophoneMultiplexer, or None.
        viewer: agent.live_view.session.LiveView that gets the pictures, or None.
        upload: app.wiring_upload.UploadBuilder, or None.
        reporter: agent.tracking.reporter.Reporter.
        net: compat.stream.Network of the link.
        outbox: agent.link.outbox.Outbox.
        answer: Function (command message, Result) that answers a command later.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.

    Raises:
        ConfigError: The platform lacks a module, or cannot make clips of these pictures.
    """
    try:
        with_sound = microphone is not None and config["clips"]["sound"] != "never"
        video = _build_video(config, hal, camera, with_sound, reporter)
        builder = _RecordingBuilder(config, hal, store, boot, video, microphone, viewer, upload, reporter)
        return RecordingController(builder.build, reporter, net, outbox, answer, camera, now_ms, log)
    except (ImportError, ValueError) as e:
        raise ConfigError("clips: %s" % e)
