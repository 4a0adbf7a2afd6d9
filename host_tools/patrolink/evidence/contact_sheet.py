"""The contact sheet of a clip: pictures at equal intervals, each with its time and its relation to the events."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from patrolink.core.decoder import rfc3339
from patrolink.evidence.timeline import ClipEvent, DecodePicture

PICTURES_MAX = 20
URGENT_TRIGGERS = ("sos", "man_down")
RED, BLUE = "#cf222e", "#0969da"  # frame of the first picture after an urgent event, and after another event
_COLUMNS_MAX = 4
_WIDTH = 360  # of a picture, pixels
_PNG_LEVEL = 2  # of zlib: 12 % larger than its default, in a third of the time
_HEIGHT_MAX = 2 * _WIDTH
_MARGIN, _GAP, _TITLE, _LABEL, _FRAME = 24, 16, 64, 44, 4
_TEXT_COLOR, _DIM_COLOR = "#1f2328", "#59636e"
_INTERVAL_MIN_MS = 200


@dataclass(frozen=True)
class Thumbnail:
    """A picture of the sheet.

    Args:
        picture: The picture, scaled down.
        at_ms: Its time from the clip's start.
        unix_ms: Its wall clock; None when unknown.
        triggers: Triggers of the events (clip.TRIGGERS) after which it is the first picture.
        phase: Its relation to the events: "before", the trigger's label, "after"; empty in a clip without events.
        since_ms: Time since the first event, negative before it; None in a clip without events.
    """

    picture: Image.Image
    at_ms: int
    unix_ms: int | None
    triggers: tuple[str, ...]
    phase: str
    since_ms: int | None

    @property
    def time_text(self) -> str:
        """Its wall clock, for people."""
        time = rfc3339(self.unix_ms)
        return f"{time[11:23]} UTC" if time else "time unknown"

    @property
    def offset_text(self) -> str:
        """Its time from the first event, or from the clip's start."""
        return f"{(self.at_ms if self.since_ms is None else self.since_ms) / 1000:+.2f} s"

    @property
    def frame_color(self) -> str:
        """The color of its frame; empty for none."""
        if not self.triggers:
            return ""
        return RED if any(trigger in URGENT_TRIGGERS for trigger in self.triggers) else BLUE

    def jpeg(self) -> bytes:
        """Return the picture as a JPEG file."""
        out = io.BytesIO()
        self.picture.save(out, "JPEG", quality=85)
        return out.getvalue()


def trigger_label(trigger: str) -> str:
    """Return a trigger's name for people."""
    return "SOS" if trigger == "sos" else trigger.replace("_", "-")


class ContactSheet:
    """Selects pictures of a clip and draws the sheet.

    Attributes:
        thumbnails: The selected pictures.

    Args:
        duration_ms: The clip's duration.
        events: Its events; the first picture after each of the first PICTURES_MAX is selected.
    """

    def __init__(self, duration_ms: int, events: list[ClipEvent]) -> None:
        self.thumbnails: list[Thumbnail] = []
        self._interval_ms = max(duration_ms / max(1, PICTURES_MAX - len(events)), _INTERVAL_MIN_MS)
        self._due_ms = 0.0
        self._pending_events = sorted(events)
        self._event_pictures_left = PICTURES_MAX
        self._first_event_ms = self._pending_events[0].at_ms if events else None

    def add(self, at_ms: int, unix_ms: int | None, decode: DecodePicture) -> None:
        """Select a picture if an interval or an event asks for it; otherwise it is not decoded."""
        triggers = [event.trigger for event in self._pending_events if event.at_ms <= at_ms]
        self._pending_events = self._pending_events[len(triggers) :]
        if at_ms < self._due_ms:
            if not triggers or not self._event_pictures_left:
                return
            self._event_pictures_left -= 1
        if self._due_ms <= at_ms:
            self._due_ms = (at_ms // self._interval_ms + 1) * self._interval_ms
        picture = decode()
        picture.thumbnail((_WIDTH * 2, _WIDTH * 2))
        since_ms = None if self._first_event_ms is None else at_ms - self._first_event_ms
        relation = "" if since_ms is None else "before" if since_ms < 0 else "after"
        phase = ", ".join(dict.fromkeys(map(trigger_label, triggers))) or relation
        self.thumbnails.append(Thumbnail(picture, at_ms, unix_ms, tuple(triggers), phase, since_ms))

    def write_png(self, path: Path, title: str, subtitle: str, stamp: str) -> None:
        """Draw the sheet to a file; `stamp` is drawn at its head. Raises OSError."""
        heights = (_WIDTH * t.picture.height // t.picture.width for t in self.thumbnails)
        height = min(max(heights, default=_WIDTH * 3 // 4), _HEIGHT_MAX)
        columns = min(_COLUMNS_MAX, max(2, len(self.thumbnails)))
        rows = -(-max(1, len(self.thumbnails)) // columns)
        width = 2 * _MARGIN + columns * (_WIDTH + _GAP) - _GAP
        sheet = Image.new("RGB", (width, 2 * _MARGIN + _TITLE + rows * (height + _LABEL + _GAP) - _GAP), "white")
        draw = ImageDraw.Draw(sheet)
        draw.text((_MARGIN, _MARGIN - 4), title, _TEXT_COLOR, ImageFont.load_default(22))
        draw.text((_MARGIN, _MARGIN + 28), subtitle, _DIM_COLOR, ImageFont.load_default(15))
        for n, thumbnail in enumerate(self.thumbnails):
            x = _MARGIN + n % columns * (_WIDTH + _GAP)
            y = _MARGIN + _TITLE + n // columns * (height + _LABEL + _GAP)
            _draw_thumbnail(sheet, draw, thumbnail, (x, y), height)
        if stamp:
            font = ImageFont.load_default(30)
            draw.text((width - _MARGIN, _MARGIN), stamp, RED, font, anchor="ra", stroke_width=1, stroke_fill=RED)
        sheet.save(path, compress_level=_PNG_LEVEL)


def _draw_thumbnail(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, thumbnail: Thumbnail, position: tuple[int, int], height: int
) -> None:
    x, y = position
    picture = thumbnail.picture
    scale = min(_WIDTH / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), position)
    if thumbnail.frame_color:
        frame = (x - _FRAME, y - _FRAME, x + size[0] + _FRAME - 1, y + size[1] + _FRAME - 1)
        draw.rectangle(frame, outline=thumbnail.frame_color, width=_FRAME)
    font, below = ImageFont.load_default(15), y + height + 8
    draw.text((x, below), thumbnail.time_text, _TEXT_COLOR, font)
    draw.text((x + _WIDTH, below), thumbnail.offset_text, _DIM_COLOR, font, anchor="ra")
    draw.text((x, below + 17), thumbnail.phase, thumbnail.frame_color or _DIM_COLOR, font)
