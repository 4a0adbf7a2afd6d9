"""Sound of `talk` and `listen`: A-law (G.711), sound files, loudspeaker and microphone. 8000 samples a second, mono."""

import wave
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from patrolink.core.errors import DeviceError, UserError

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import Packet

RATE = 8000
FRAME = 160  # 20 ms
_MOST_S = 3600  # of a file
_RING = 8 * RATE
_DELAY = RATE * 160 // 1000  # of the loudspeaker: what a 4G network makes late
Samples = NDArray[np.int16]


def _table() -> Samples:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 15) << 4
    level = np.where(exponent > 0, mantissa + 0x108 << np.maximum(exponent - 1, 0), mantissa + 8)
    return np.where(code & 0x80, level, -level).astype(np.int16)


_DECODED = _table()


def decode(alaw: bytes) -> Samples:
    """Return A-law as 16-bit samples."""
    return _DECODED[np.frombuffer(alaw, np.uint8)]


def encode(samples: Samples) -> bytes:
    """Return 16-bit samples as A-law."""
    level = samples.astype(np.int32) >> 3
    sign = np.where(level >= 0, 0xD5, 0x55)
    level = np.where(level < 0, -level - 1, level)
    exponent = np.maximum(np.frexp(level)[1] - 5, 0)  # exact: level has 12 bits
    mantissa = level >> np.maximum(exponent, 1) & 15
    out: NDArray[np.uint8] = ((exponent << 4 | mantissa) ^ sign).astype(np.uint8)
    return out.tobytes()


def read(path: Path) -> bytes:
    """Return a sound file (WAV, Ogg, FLAC, MP3, ...) as A-law. UserError when it is none, empty or over an hour."""
    import av

    try:
        parts: list[Samples] = []
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in container.decode(audio=0):
                parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
                if sum(map(len, parts)) > _MOST_S * RATE:
                    raise UserError(f"{path}: longer than an hour; cut it")
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (av.FFmpegError, OSError, IndexError) as e:
        raise UserError(f"{path}: no sound file that can be read ({e}); a WAV is one") from None
    if not sum(map(len, parts)):
        raise UserError(f"{path}: there is no sound in it")
    return encode(np.concatenate(parts))


def behind(stamp: int, first: int) -> int:
    """Return how many samples one RTP timestamp is behind another; they wrap."""
    return ((stamp - first + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class Wav:
    """A 16-bit WAV that bursts are written to one after another, with half a second of silence between."""

    def __init__(self, path: Path) -> None:
        try:
            self._raw = path.open("wb")
        except OSError as e:
            raise UserError(f"{path}: {e.strerror}; name a file that can be written with --output") from None
        self._file = wave.open(self._raw, "wb")  # noqa: SIM115 - closed by `close`
        self._file.setparams((1, 2, RATE, 0, "NONE", ""))
        self._any = False

    def write(self, samples: Samples) -> None:
        """Write a burst."""
        self._file.writeframes((bytes(RATE) if self._any else b"") + samples.astype("<i2").tobytes())
        self._any = True

    def close(self) -> None:
        """Write the header."""
        self._file.close()
        self._raw.close()


class Speaker:
    """Puts packets in their place and hands out what is to be heard; groups that talk at once are mixed.

    A packet that comes later than 160 ms after its turn is left out. Pure: `pull` is the loudspeaker's clock.
    """

    def __init__(self) -> None:
        self._ring = np.zeros(_RING, np.int32)
        self._now = 0
        self._places: dict[int, tuple[int, int, int]] = {}  # of a group: its burst, the first stamp, and its place

    def take(self, packet: "Packet") -> None:
        """Take a packet, in any order."""
        burst = self._places.get(packet.group)
        if burst is None or burst[0] != packet.ssrc:
            burst = self._places[packet.group] = packet.ssrc, packet.stamp, self._now + _DELAY
        at = burst[2] + behind(packet.stamp, burst[1])
        samples = decode(packet.alaw)[max(0, self._now - at) :]
        at = max(at, self._now)
        if len(samples) and at + len(samples) - self._now <= _RING:
            self._ring[np.arange(at, at + len(samples)) % _RING] += samples

    def pull(self, n: int) -> Samples:
        """Return the next n samples."""
        places = np.arange(self._now, self._now + n) % _RING
        out = np.clip(self._ring[places], -32768, 32767).astype(np.int16)
        self._ring[places] = 0
        self._now += n
        return out


def loudspeaker(speaker: Speaker) -> Any:
    """Return an open stream that plays; `close()` it. DeviceError when this machine cannot."""

    def more(out: Any, frames: int, when: Any, status: Any) -> None:
        out[:] = speaker.pull(frames).tobytes()

    return _open("RawOutputStream", more, "name a file with --output")


def microphone(take: Callable[[bytes], None]) -> Any:
    """Return an open stream that hands over frames of A-law, in a thread; `close()` it. DeviceError when it cannot."""

    def more(data: Any, frames: int, when: Any, status: Any) -> None:
        take(encode(np.frombuffer(bytes(data), np.int16)))

    return _open("RawInputStream", more, "name a file with --file")


def _open(kind: str, more: Callable[..., None], instead: str) -> Any:
    try:
        import sounddevice
    except ImportError:
        raise DeviceError(f"sound needs the package sounddevice (pip install sounddevice); or {instead}") from None
    except OSError:
        raise DeviceError(f"sound needs PortAudio (apt-get install libportaudio2); or {instead}") from None
    try:
        stream = getattr(sounddevice, kind)(RATE, FRAME, channels=1, dtype="int16", callback=more)
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as e:
        raise DeviceError(f"no sound device can be used ({e}); connect one, or {instead}") from None
    return stream
