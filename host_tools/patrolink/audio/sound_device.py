"""Loudspeaker and microphone of this machine, through the optional package sounddevice."""

from collections.abc import Callable
from typing import Any

import numpy as np

from patrolink.audio import alaw
from patrolink.audio.playout import PlayoutMixer
from patrolink.audio.voice_packet import FRAME_SAMPLES, SAMPLE_RATE_HZ
from patrolink.core.errors import DeviceError


def open_loudspeaker(mixer: PlayoutMixer) -> Any:
    """Start playing what a mixer delivers.

    Returns:
        The open stream; call its `close()`.

    Raises:
        DeviceError: This machine has no usable sound output.
    """

    def fill(out: Any, frames: int, when: Any, status: Any) -> None:
        out[:] = mixer.pull(frames).tobytes()

    return _open_stream("RawOutputStream", fill, "name a file with --output")


def open_microphone(on_frame: Callable[[bytes], None]) -> Any:
    """Start capturing.

    Args:
        on_frame: Called in another thread with each A-law frame of 20 ms.

    Returns:
        The open stream; call its `close()`.

    Raises:
        DeviceError: This machine has no usable sound input.
    """

    def capture(data: Any, frames: int, when: Any, status: Any) -> None:
        on_frame(alaw.encode(np.frombuffer(bytes(data), np.int16)))

    return _open_stream("RawInputStream", capture, "name a file with --file")


def _open_stream(kind: str, callback: Callable[..., None], alternative: str) -> Any:
    try:
        import sounddevice  # optional: the extra [sound]
    except ImportError:
        raise DeviceError(
            f"sound needs the package sounddevice (pip install sounddevice); install it, or {alternative}"
        ) from None
    except OSError:
        raise DeviceError(
            f"sound needs PortAudio (apt-get install libportaudio2); install it, or {alternative}"
        ) from None
    try:
        stream = getattr(sounddevice, kind)(SAMPLE_RATE_HZ, FRAME_SAMPLES, channels=1, dtype="int16", callback=callback)
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as e:
        raise DeviceError(f"no usable sound device ({e}); connect one, or {alternative}") from None
    return stream
