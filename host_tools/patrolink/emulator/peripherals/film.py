"""The film that emulated cameras show if no other is named."""

import os
from pathlib import Path

from patrolink.core import resources

_PATTERN = "testsrc2=size=640x360:rate=15:duration=12"  # ffmpeg's source "testsrc2": it moves and shows the time
_FPS = 15


def default_film() -> Path:
    """Return the film of `make media`; without it a test pattern, which is rendered once."""
    folder = resources.build_folder() / "media"
    film = folder / "bikes.mp4"
    if film.is_file():
        return film
    pattern = folder / "test-pattern.mp4"
    if not pattern.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"new-{os.getpid()}.mp4"
        _render(new)
        new.replace(pattern)
    return pattern


def _render(path: Path) -> None:
    import av

    with av.open(_PATTERN, format="lavfi") as source, av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 2_000_000
        for frame in source.decode(video=0):
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
