"""Reads sheets of labels back: renders their pages, and decodes the QR code of each label."""

from collections.abc import Iterator

import cv2
import numpy
import pypdfium2

PER_PAGE, _COLUMNS = 24, 3
_DPI = 300  # as they are drawn: no pixel is resampled


def pages(pdf: bytes, dpi: int = _DPI) -> list[numpy.ndarray]:
    """Return the rendered pages, gray."""
    return [page.render(scale=dpi / 72).to_numpy()[:, :, 0] for page in pypdfium2.PdfDocument(pdf)]


def label_cells(page: numpy.ndarray) -> Iterator[numpy.ndarray]:
    """Yield the picture of each label of a page."""
    height, width = page.shape[0] * 437 / 3508, page.shape[1] * 826 / 2480
    for i in range(PER_PAGE):
        row, column = divmod(i, _COLUMNS)
        yield page[int(row * height) : int((row + 1) * height), int(column * width) : int((column + 1) * width)]


def read_codes(pdf: bytes) -> list[str]:
    """Return the contents of the QR codes, in the order of the labels."""
    return [code for page in pages(pdf) for code in read_page(page)]


def read_page(page: numpy.ndarray) -> list[str]:
    """Return the contents of the QR codes of a page."""
    detector = cv2.QRCodeDetectorAruco()
    return [text for cell in label_cells(page) if (text := detector.detectAndDecode(cell)[0])]
