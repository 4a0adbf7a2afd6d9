"""Video of boards that run CPython with PyAV and OpenCV: H.264 files, JPEGs and stamps of pictures as BGR arrays."""

import time
from fractions import Fraction

import av
import cv2
import numpy as np
from hal.posix.h264_encoder import Encoder  # noqa: F401  # part of the contract: hal.video().Encoder
from hal.posix.letterbox import letterbox
from patrolink_protocol import clip

VIDEO_KBPS_MAX = 1000
_FRAGMENT_US = 200000
_KEY_FRAME_MS = 1000
_CRF = 23  # x264's constant rate factor, where VIDEO_KBPS_MAX allows it
_AUDIO_HZ = 8000
_AAC_FRAME_SAMPLES = 1024
_AUDIO_KBPS = 24
_AUDIO_DRIFT_MAX = _AUDIO_HZ // 10  # samples: sound with a larger time error is moved to its time
_AUDIO_LATE_MAX = _AUDIO_HZ // 2  # samples: later sound is replaced by silence, so that video does not wait for it
_SILENCE_MAX = 60 * _AUDIO_HZ  # samples of silence inserted at once
_MS = Fraction(1, 1000)


class H264Muxer:
    """A container of the recorder: H.264 and AAC in MP4 with fragments of 200 ms.

    The file plays when it is cut after any fragment. The sink gets complete fragments. Each second has a key frame.

    Args:
        width: Width of the video in pixels; an odd width is reduced by 1. Pictures of another size are fitted.
        height: Height of the video in pixels, likewise.
        fps: Nominal pictures per second.
        kbps: Maximum bit rate of the video in kbit/s.
        sound: Whether the file has a sound track. It is silent while no samples come.

    Raises:
        ValueError: PyAV was built without libx264.
    """

    codec = clip.H264_MP4

    def __init__(self, width, height, fps, kbps=VIDEO_KBPS_MAX, sound=True):
        av.codec.Codec("libx264", "w")  # raises ValueError now rather than at the first clip
        self._size = width & ~1, height & ~1
        self._fps = fps
        self._kbps = kbps
        self._sound = sound

    def begin(self, sink):
        """Begin a file.

        Args:
            sink: Function (time_ms, data) that gets the file, one or more complete fragments per call.
        """
        self._sink = sink
        self._muxed = bytearray()
        self._now_ms = 0
        self._last_ms = -1  # time of the previous picture
        self._key_frame_ms = -_KEY_FRAME_MS
        self._encoded_samples = 0
        self._pcm = bytearray()  # samples that wait for a complete AAC frame
        self._has_sound = False
        # The header waits for the first fragment: only then the muxer knows the encoder delay of AAC.
        options = {"movflags": "empty_moov+delay_moov+default_base_moof", "frag_duration": str(_FRAGMENT_US)}
        self._file = av.open(self, "w", format="mp4", options={**options, "flush_packets": "1"})
        self._video = self._file.add_stream("libx264", rate=self._fps)
        self._configure_video(self._video.codec_context)
        self._audio = None
        if self._sound:
            self._audio = self._file.add_stream("aac", rate=_AUDIO_HZ, layout="mono")
            self._audio.bit_rate = _AUDIO_KBPS * 1000

    def _configure_video(self, context):
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.color_range, context.colorspace = 1, 6  # as OpenCV converts BGR: limited range, BT.601
        context.time_base = _MS
        context.gop_size = 100 * self._fps  # `picture` requests the key frames
        context.max_b_frames = 0
        context.thread_count = 1
        rate = str(self._kbps * 1000)
        context.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "crf": str(_CRF),
            "maxrate": rate,
            "bufsize": rate,
            "forced-idr": "1",
        }

    def write(self, data):
        """Take output of the muxer, which uses this object as its file."""
        self._muxed += data
        return len(data)

    def picture(self, picture, time_ms):
        """Append a picture. A time that is not after the previous one is replaced by the previous time plus 1 ms."""
        self._now_ms = self._last_ms = max(time_ms, self._last_ms + 1)
        picture = letterbox(picture, *self._size)
        frame = av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        frame.pts, frame.time_base = self._now_ms, _MS
        if self._now_ms - self._key_frame_ms >= _KEY_FRAME_MS:
            self._key_frame_ms = self._now_ms
            frame.pict_type = av.video.frame.PictureType.I
        self._mux(self._video, frame)
        missing = self._missing_samples(self._now_ms) - (_AUDIO_LATE_MAX if self._has_sound else 0)
        if self._audio is not None and missing > 0:
            self._append_pcm(bytes(2 * min(missing, _SILENCE_MAX)))

    def sound(self, pcm, time_ms):
        """Append samples: 16 bits, little-endian, 8000 per second."""
        if self._audio is None:
            return
        missing = self._missing_samples(time_ms)
        if missing < -_AUDIO_DRIFT_MAX:
            return  # the track has sound of that time already
        if _AUDIO_DRIFT_MAX < missing <= _SILENCE_MAX:
            self._append_pcm(bytes(2 * missing))
        self._has_sound = True
        self._append_pcm(pcm)

    def _missing_samples(self, time_ms):
        """Return how many samples the sound track lacks up to `time_ms`."""
        return time_ms * _AUDIO_HZ // 1000 - self._encoded_samples - len(self._pcm) // 2

    def _append_pcm(self, pcm):
        self._pcm += pcm
        while len(self._pcm) >= 2 * _AAC_FRAME_SAMPLES:
            self._encode_audio(_AAC_FRAME_SAMPLES)

    def _encode_audio(self, samples):
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(bytes(self._pcm[: 2 * samples]).ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.time_base = _AUDIO_HZ, Fraction(1, _AUDIO_HZ)
        frame.pts = self._encoded_samples
        self._encoded_samples += samples
        del self._pcm[: 2 * samples]
        self._mux(self._audio, frame)

    def _mux(self, stream, frame):
        for packet in stream.encode(frame):
            self._file.mux(packet)
        self._deliver()

    def _deliver(self):
        if self._muxed:
            self._sink(self._now_ms, bytes(self._muxed))
            self._muxed.clear()

    def end(self):
        """Complete the file with what the codecs still hold."""
        if self._audio is not None:
            if len(self._pcm) > 1 or not self._encoded_samples:  # the header needs at least one sample
                self._encode_audio(max(1, len(self._pcm) // 2))
            self._mux(self._audio, None)
        self._mux(self._video, None)
        self._file.close()
        self._deliver()
        self._file = self._video = self._audio = None


def encode_jpeg(picture, quality=80):
    """Return a picture as a JPEG."""
    return cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


class StampedCamera:
    """A camera that draws device, time and position into its pictures.

    Args:
        camera: The camera; attributes other than `frame` are its own.
        device: Device id, text.
        position: Function (monotonic ms) -> (unix ms, latitude, longitude in 1e-7 degrees); 0, None, None when unknown.
    """

    def __init__(self, camera, device, position):
        self._camera = camera
        self._device = device
        self._position = position
        self._text = ""
        self._band = None  # the text as a picture

    def __getattr__(self, name):
        return getattr(self._camera, name)

    def frame(self):
        """Return the next frame of the camera with the stamp in its picture, or None."""
        frame = self._camera.frame()
        if frame is not None:
            picture = frame[0]
            text = stamp_text(self._device, *self._position(frame[1]))
            if text != self._text:
                self._text, self._band = text, _draw(text, picture.shape[1])
            height, width = self._band.shape[:2]
            area = picture[-height:, :width]
            area[:] = self._band[-area.shape[0] :, : area.shape[1]]
        return frame


def stamp_text(device, unix_ms, lat_e7, lon_e7):
    """Return the text of a stamp. Arguments as in StampedCamera."""
    time_text = "time unknown"
    if unix_ms:
        time_text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_ms // 1000))
    position_text = "position unknown"
    if lat_e7 is not None and lon_e7 is not None:
        position_text = f"{lat_e7 / 1e7:.5f} {lon_e7 / 1e7:.5f}"
    return f"{device}  {time_text}  {position_text}"


def _draw(text, width):
    """Return a picture of white text on black, scaled down to fit into a picture of `width` pixels."""
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, width / 1280, 1 + width // 1280
    (text_width, text_height), baseline = cv2.getTextSize(text, font, scale, thickness)
    if text_width > width - 8:
        scale *= (width - 8) / text_width
        (text_width, text_height), baseline = cv2.getTextSize(text, font, scale, thickness)
    band = np.zeros((text_height + baseline + 8, text_width + 8, 3), np.uint8)
    cv2.putText(band, text, (4, text_height + 4), font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return band
