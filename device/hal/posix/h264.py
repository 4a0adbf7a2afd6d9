"""Pictures that are BGR arrays, on boards that run CPython with PyAV and OpenCV: films of them, JPEGs, stamps."""

import time
from fractions import Fraction

import av
import cv2
import numpy as np
from hal.posix.h264_encoder import Encoder  # noqa: F401  # what a live view asks of the same board
from patrolink_protocol import clip

KBPS = 1000  # of pictures, at most
_FRAGMENT_US = 200000
_KEY_MS = 1000
_QUALITY = 23  # x264's CRF, where KBPS allows it
_RATE = 8000
_SAMPLES = 1024  # in a frame of AAC
_SOUND_KBPS = 24
_APART = _RATE // 10  # samples; sound that is farther than this from where it belongs is moved there
_LATE = _RATE // 2  # samples; sound that is later than this is silence: a film does not wait for it
_LONGEST = 60 * _RATE  # samples; more silence is never made up for
_MS = Fraction(1, 1000)


class H264:
    """
    A container of the recorder: H.264, and AAC with it, in MP4 that is made of fragments of a fifth of a second. Cut
    after any of them, it plays; the sink gets whole ones. Each second has a key frame.

    width, height  of the film, an odd one less 1; a picture of another size is scaled
    sound          there is a track of sound; it is silent while none comes
    """

    codec = clip.H264_MP4

    def __init__(self, width, height, fps, kbps=KBPS, sound=True):
        av.codec.Codec("libx264", "w")  # a PyAV without it is told at once, by ValueError
        self._size = width & ~1, height & ~1
        self._fps = fps
        self._kbps = kbps
        self._sound = sound

    def begin(self, sink):
        """Begin a file. It goes to sink(time_ms, bytes), one or more fragments at once."""
        self._sink = sink
        self._waiting = bytearray()
        self._now = 0
        self._last = -1  # time of the picture before
        self._key = -_KEY_MS  # of the last key frame
        self._said = 0  # samples that are encoded
        self._voice = bytearray()  # those that are to be
        self._hears = False
        # Its header waits for the first fragment: only then the muxer knows by what AAC begins too early.
        options = {"movflags": "empty_moov+delay_moov+default_base_moof", "frag_duration": str(_FRAGMENT_US)}
        self._file = av.open(self, "w", format="mp4", options={**options, "flush_packets": "1"})
        self._video = self._file.add_stream("libx264", rate=self._fps)
        self._set_video(self._video.codec_context)
        self._audio = None
        if self._sound:
            self._audio = self._file.add_stream("aac", rate=_RATE, layout="mono")
            self._audio.bit_rate = _SOUND_KBPS * 1000

    def _set_video(self, context):
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.color_range, context.colorspace = 1, 6  # as OpenCV makes it of BGR: limited, BT.601
        context.time_base = _MS
        context.gop_size = 100 * self._fps  # `picture` asks for the key frames
        context.max_b_frames = 0
        context.thread_count = 1
        rate = str(self._kbps * 1000)
        context.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "crf": str(_QUALITY),
            "maxrate": rate,
            "bufsize": rate,
            "forced-idr": "1",
        }

    def write(self, data):
        """Take what the muxer gives: it writes into this object as into a file."""
        self._waiting += data
        return len(data)

    def picture(self, picture, time_ms):
        """Append a picture. A time that is not after the one before is taken as 1 ms after it."""
        self._now = self._last = max(time_ms, self._last + 1)
        width, height = self._size
        if picture.shape[:2] != (height, width):
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        frame.pts, frame.time_base = self._now, _MS
        if self._now - self._key >= _KEY_MS:
            self._key = self._now
            frame.pict_type = av.video.frame.PictureType.I
        self._mux(self._video, frame)
        late = self._behind(self._now) - (_LATE if self._hears else 0)
        if self._audio is not None and late > 0:
            self._hear(bytes(2 * min(late, _LONGEST)))

    def sound(self, pcm, time_ms):
        """Append samples: 16 bits, little-endian, 8000 a second."""
        if self._audio is None:
            return
        behind = self._behind(time_ms)
        if behind < -_APART:
            return  # twice the same time
        if _APART < behind <= _LONGEST:
            self._hear(bytes(2 * behind))
        self._hears = True
        self._hear(pcm)

    def _behind(self, time_ms):
        """Return how many samples the sound lacks up to that time."""
        return time_ms * _RATE // 1000 - self._said - len(self._voice) // 2

    def _hear(self, pcm):
        self._voice += pcm
        while len(self._voice) >= 2 * _SAMPLES:
            self._say(_SAMPLES)

    def _say(self, samples):
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(bytes(self._voice[: 2 * samples]).ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.time_base = _RATE, Fraction(1, _RATE)
        frame.pts = self._said
        self._said += samples
        del self._voice[: 2 * samples]
        self._mux(self._audio, frame)

    def _mux(self, stream, frame):
        for packet in stream.encode(frame):
            self._file.mux(packet)
        self._hand_on()

    def _hand_on(self):
        if self._waiting:
            self._sink(self._now, bytes(self._waiting))
            self._waiting.clear()

    def end(self):
        """The file is whole: what waits in the codecs."""
        if self._audio is not None:
            if len(self._voice) > 1 or not self._said:  # the header waits for a first one
                self._say(max(1, len(self._voice) // 2))
            self._mux(self._audio, None)
        self._mux(self._video, None)
        self._file.close()
        self._hand_on()
        self._file = self._video = self._audio = None


def jpeg(picture, quality=80):
    """Return a picture as a JPEG."""
    return cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


class Stamped:
    """
    A camera whose pictures tell who made them, when and where.

    place  function(monotonic ms) -> (unix ms, latitude, longitude in 1e-7 degrees); 0, None, None: not known
    """

    def __init__(self, camera, device, place):
        self._camera = camera
        self._device = device
        self._place = place
        self._text = ""
        self._band = None  # the text as a picture

    def __getattr__(self, name):
        return getattr(self._camera, name)

    def frame(self):
        """Return what the camera gives, with the text in its picture."""
        got = self._camera.frame()
        if got is not None:
            text = words(self._device, *self._place(got[1]))
            if text != self._text:
                self._text, self._band = text, _drawn(text, got[0].shape[1])
            height, width = self._band.shape[:2]
            room = got[0][-height:, :width]
            room[:] = self._band[-room.shape[0] :, : room.shape[1]]
        return got


def words(device, unix_ms, lat_e7, lon_e7):
    """Return the text of a stamp."""
    when = "time unknown"
    if unix_ms:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_ms // 1000))
    where = "position unknown"
    if lat_e7 is not None and lon_e7 is not None:
        where = f"{lat_e7 / 1e7:.5f} {lon_e7 / 1e7:.5f}"
    return f"{device}  {when}  {where}"


def _drawn(text, width):
    """Return white text on black, as wide as fits into a picture of that width."""
    font, scale, thick = cv2.FONT_HERSHEY_SIMPLEX, width / 1280, 1 + width // 1280
    (long, high), below = cv2.getTextSize(text, font, scale, thick)
    if long > width - 8:
        scale *= (width - 8) / long
        (long, high), below = cv2.getTextSize(text, font, scale, thick)
    band = np.zeros((high + below + 8, long + 8, 3), np.uint8)
    cv2.putText(band, text, (4, high + 4), font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return band
