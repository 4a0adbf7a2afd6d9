"""Pictures in the size of a camera, with their aspect ratio. For CPython with OpenCV."""

import cv2


def letterbox(picture, width, height):
    """Scale a BGR picture to fit a size, with black bars where its aspect ratio differs.

    Args:
        picture: BGR array, height x width x 3 bytes.
        width: Width of the result in pixels.
        height: Its height in pixels.

    Returns:
        A BGR array of that size; the picture itself if it has that size already.
    """
    source_height, source_width = picture.shape[:2]
    if (source_width, source_height) == (width, height):
        return picture
    scale = min(width / source_width, height / source_height)
    fitted = max(1, round(source_width * scale)), max(1, round(source_height * scale))
    picture = cv2.resize(picture, fitted, interpolation=cv2.INTER_AREA)
    left, top = (width - fitted[0]) // 2, (height - fitted[1]) // 2
    right, bottom = width - fitted[0] - left, height - fitted[1] - top
    return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT)
