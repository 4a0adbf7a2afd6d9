"""Pictures that a camera of a test delivers."""

import io

import numpy
from PIL import Image


def drawn_pictures(h264: bool, n: int = 30) -> list:
    """Return pictures of a moving red rectangle: BGR arrays for H.264, JPEG files otherwise."""
    size = (640, 480) if h264 else (320, 240)
    background = Image.effect_noise((size[0] // 8, size[1] // 8), 30).resize(size).convert("RGB")
    pictures = []
    for i in range(n):
        picture = background.copy()
        picture.paste((200, 60, 60), (10 * i % size[0], 80, 10 * i % size[0] + 60, 200))
        if h264:
            pictures.append(numpy.asarray(picture)[:, :, ::-1].copy())
        else:
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=70)
            pictures.append(data.getvalue())
    return pictures
