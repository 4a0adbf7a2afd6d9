"""Labels for devices: a QR code and text, on A4 sheets as PDF, or for label printers as ZPL II.

The code holds no secret: `PL1:<device>:<serial>:<unique id>`, where the unique id may be empty.
"""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import segno
from PIL import Image, ImageDraw, ImageFont

from patrolink.core.errors import UserError
from patrolink.flash.provision.device_table import TableDevice

_DPI = 300
_PAGE = (2480, 3508)  # A4
_COLUMNS, _ROWS = 3, 8  # sheets with labels of 70 x 37 mm, such as Avery Zweckform 3474
_LABEL = (826, 437)
_MARGIN = 36
_QR_MAX = 310  # pixels; the quiet zone of 4 modules is part of it
_NAME_SIZE, _TEXT_SIZE, _UNIT_SIZE, _SIZE_MIN, _LINE_HEIGHT = 60, 36, 24, 20, 44
_NOT_A_CHARACTER = "\U0010ffff"
_ZPL_SPECIAL = "^~_\\"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Label(NamedTuple):
    """What a label shows.

    Attributes:
        code: Content of the QR code.
        device: Id of the device.
        serial: Serial number.
        circle: Name of the circle.
        unit: Which unit it belongs on, for people; empty if that is not known.
    """

    code: str
    device: str
    serial: str
    circle: str
    unit: str = ""


def of_device(device: TableDevice, usb_path: str = "") -> Label:
    """Return the label of a device.

    Args:
        device: The device.
        usb_path: USB socket or port at which its unit was provisioned; empty if that is not known.
    """
    row = device.row
    unit = f"unit ..{row.unique_id[-8:]}" if row.unique_id else ""
    code = f"PL1:{row.device}:{row.serial}:{row.unique_id}"
    return Label(code, row.device, row.serial, row.circle, f"{unit} at {usb_path}" if unit and usb_path else unit)


# --- sheets -----------------------------------------------------------------------------------------------------------


def sheets(labels: Sequence[Label], font_path: Path | None = None) -> bytes:
    """Return labels as a PDF file, 24 on each page. The same labels give the same file.

    Args:
        labels: The labels.
        font_path: TrueType or OpenType font; None: a font of Latin letters.

    Raises:
        UserError: The font cannot be used, or lacks a character.
    """
    fonts = _Fonts(font_path)
    for label in labels:
        fonts.check(f"{label.device} {label.serial} {label.circle} {label.unit}")
    out = io.BytesIO()
    per_page, fixed_time = _COLUMNS * _ROWS, time.gmtime(0)
    for first in range(0, len(labels), per_page):
        page = Image.new("1", _PAGE, 1)
        for i, label in enumerate(labels[first : first + per_page]):
            row, column = divmod(i, _COLUMNS)
            _draw(page, label, (column * _LABEL[0], row * _LABEL[1]), fonts)
        out.seek(0)
        page.save(
            out, "PDF", resolution=_DPI, append=first > 0, producer="patrolink",
            creationDate=fixed_time, modDate=fixed_time,
        )  # fmt: skip
    return out.getvalue()


class _Fonts:
    """The font of the labels in several sizes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sizes: dict[int, _Font] = {}
        self._missing = bytes(self.size(_TEXT_SIZE).getmask(_NOT_A_CHARACTER))

    def size(self, size: int) -> _Font:
        """Return the font in a size in pixels."""
        if size not in self._sizes:
            try:
                font = ImageFont.truetype(str(self._path), size) if self._path else ImageFont.load_default(size)
            except OSError as e:
                raise UserError(f"{self._path}: {e}; give a TrueType or OpenType font with --label-font") from None
            self._sizes[size] = font
        return self._sizes[size]

    def check(self, text: str) -> None:
        """Raise UserError for a character that the font does not have."""
        font = self.size(_TEXT_SIZE)
        for character in text:
            if not character.isspace() and bytes(font.getmask(character)) == self._missing:
                name = self._path or "the built-in font"
                raise UserError(f"{name} has no character {character!r}; give a font that has it with --label-font")

    def fitting(self, text: str, size: int, width: float) -> _Font:
        """Return the font in the largest size up to `size` in which the text fits into a width."""
        while size > _SIZE_MIN and self.size(size).getlength(text) > width:
            size -= 2
        return self.size(size)


def _draw(page: Image.Image, label: Label, origin: tuple[int, int], fonts: _Fonts) -> None:
    draw, (left, top), (width, height) = ImageDraw.Draw(page), origin, _LABEL
    font = fonts.fitting(label.device, _NAME_SIZE, width - 2 * _MARGIN)
    draw.text((left + _MARGIN, top + _MARGIN), label.device, 0, font)
    code = _qr_code(label.code)
    page.paste(code, (left + _MARGIN // 2, top + height - code.height - _MARGIN // 2))
    x, y, room = left + _MARGIN + code.width, top + _MARGIN + 90, width - code.width - 2 * _MARGIN
    draw.text((x, y - 26), label.unit, 0, fonts.fitting(label.unit, _UNIT_SIZE, room))
    for text in (*_lines(label.serial, fonts, room), *_lines(label.circle, fonts, room)):
        draw.text((x, y), text, 0, fonts.fitting(text, _TEXT_SIZE, room))
        y += _LINE_HEIGHT


def _qr_code(content: str) -> Image.Image:
    """Return a QR code with its quiet zone."""
    code = segno.make(content, error="m", micro=False)
    picture = io.BytesIO()
    code.save(picture, kind="png", scale=max(2, _QR_MAX // int(code.symbol_size()[0])))
    with Image.open(picture) as image:
        converted: Image.Image = image.convert("1")
        return converted


def _lines(text: str, fonts: _Fonts, width: float) -> list[str]:
    """Return a text in at most 4 lines that fit into a width."""
    lines, font = [""], fonts.size(_TEXT_SIZE)
    for character in text:
        if font.getlength(lines[-1] + character) > width and len(lines) < 4:
            head, space, rest = lines[-1].rpartition(" ")
            lines[-1:] = [head, rest] if space else [lines[-1], ""]
        lines[-1] += character
    return [line.strip() for line in lines]


# --- label printers ---------------------------------------------------------------------------------------------------


def zpl(labels: Sequence[Label]) -> bytes:
    """Return labels in ZPL II for label printers of 203 dpi and labels of 70 x 37 mm, UTF-8."""
    return "".join(
        "^XA^CI28^PW559^LL296\n"
        f"^FO24,20^A0N,40,36^FB511,1,0,L^FH_^FD{_escaped(label.device)}^FS\n"
        f"^FO24,70^BQN,2,4^FH_^FDMA,{_escaped(label.code)}^FS\n"
        f"^FO250,68^A0N,18,16^FH_^FD{_escaped(label.unit)}^FS\n"
        f"^FO250,90^A0N,28,26^FH_^FD{_escaped(label.serial)}^FS\n"
        f"^FO250,130^A0N,28,26^FB285,4,4,L^FH_^FD{_escaped(label.circle)}^FS\n"
        "^XZ\n"
        for label in labels
    ).encode()


def _escaped(text: str) -> str:
    """Return text as field data: characters with a meaning in ZPL as hexadecimal, after ^FH."""
    return "".join(f"_{ord(c):02X}" if c in _ZPL_SPECIAL else c for c in text)


def render(labels: Sequence[Label], path: Path, font_path: Path | None) -> bytes:
    """Return the file of labels for a path: PDF or ZPL, by its suffix.

    Raises:
        UserError: The suffix is another one, or the font cannot be used.
    """
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        return sheets(labels, font_path)
    if suffix == ".zpl":
        return zpl(labels)
    raise UserError(f"--labels {path}: name a file that ends in .pdf (A4 sheets) or .zpl (label printers)")
