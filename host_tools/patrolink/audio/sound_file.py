"""Sound files of `talk` and `listen`."""

import wave
from pathlib import Path

import numpy as np

from patrolink.audio import alaw
from patrolink.audio.alaw import Samples
from patrolink.audio.voice_packet import SAMPLE_RATE_HZ
from patrolink.core.errors import UserError

_MAX_DURATION_S = 3600
_GAP_BYTES = SAMPLE_RATE_HZ  # half a second of 16-bit silence


def read_alaw(path: Path) -> bytes:
    """Return a sound file as A-law at 8 kHz, mono.

    Args:
        path: A file that FFmpeg can read (WAV, Ogg, FLAC, MP3 and others), of any sampling rate.

    Raises:
        UserError: The file cannot be read, is empty, or is longer than an hour.
    """
    import av  # heavy, and not needed with a microphone

    blocks: list[Samples] = []
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
            for frame in container.decode(audio=0):
                blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
                if sum(map(len, blocks)) > _MAX_DURATION_S * SAMPLE_RATE_HZ:
                    raise UserError(f"{path}: longer than 1 h; use a shorter file")
            blocks += [block.to_ndarray()[0] for block in resampler.resample(None)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (av.FFmpegError, OSError, IndexError) as e:
        raise UserError(f"{path}: not a readable sound file ({e}); convert it to WAV") from None
    if not sum(map(len, blocks)):
        raise UserError(f"{path}: the file has no sound; use another file")
    return alaw.encode(np.concatenate(blocks))


class BurstWriter:
    """Writes bursts to a 16-bit WAV file, with half a second of silence between them.

    Args:
        path: The file, which is overwritten.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._raw = path.open("wb")
        except OSError as e:
            raise UserError(f"{path}: {e.strerror}; choose a writable file with --output") from None
        self._file = wave.open(self._raw, "wb")  # noqa: SIM115 - closed by `close`
        self._file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        self._empty = True

    def write(self, samples: Samples) -> None:
        """Write a burst."""
        gap = b"" if self._empty else bytes(_GAP_BYTES)
        self._file.writeframes(gap + samples.astype("<i2").tobytes())
        self._empty = False

    def close(self) -> None:
        """Write the header and close the file."""
        self._file.close()
        self._raw.close()
