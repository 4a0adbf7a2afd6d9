"""A contact sheet: pictures of a clip at even distances, each with its time, and where it is to the button."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from patrolink.core.decoder import rfc3339
from patrolink.evidence.timeline import Picture

MOST = 20
URGENT = ("sos", "man_down")
RED, BLUE = "#cf222e", "#0969da"  # the frame of an event's first picture: of an urgent one, of another
_COLUMNS = 4
_WIDTH = 360  # of a picture, in points of the screen
_HIGHEST = 2 * _WIDTH  # what is narrower than that leaves room beside it
_EDGE, _GAP, _TITLE, _LABEL, _FRAME = 24, 16, 64, 44, 4
_INK, _DIM = "#1f2328", "#59636e"
_LEAST_MS = 200  # between two pictures


@dataclass(frozen=True)
class Shot:
    """A picture, ms of the clip, wall clock or None, and the triggers (clip.TRIGGERS) that it is the first one after.

    phase  where it is to the events: "before", the trigger's word, "after"; "" in a clip without one
    since_ms  since the first event; negative before it
    """

    picture: Image.Image
    at_ms: int
    unix_ms: int | None
    triggers: tuple[str, ...]
    phase: str
    since_ms: int | None

    @property
    def when(self) -> str:
        """Its time, for people."""
        told = rfc3339(self.unix_ms)
        return f"{told[11:23]} UTC" if told else "time not known"

    @property
    def offset(self) -> str:
        """Where in the clip it is: from the first event, or from the clip's begin."""
        return f"{(self.at_ms if self.since_ms is None else self.since_ms) / 1000:+.2f} s"

    @property
    def colour(self) -> str:
        """Of its frame; "" for none."""
        if not self.triggers:
            return ""
        return RED if any(trigger in URGENT for trigger in self.triggers) else BLUE

    def jpeg(self) -> bytes:
        """Return it as a file."""
        out = io.BytesIO()
        self.picture.save(out, "JPEG", quality=85)
        return out.getvalue()


def word(trigger: str) -> str:
    """Return a trigger as people say it."""
    return "SOS" if trigger == "sos" else trigger.replace("_", "-")


class Contact:
    """
    shots  that were taken
    """

    def __init__(self, duration_ms: int, events: list[tuple[int, str]]) -> None:
        """duration_ms of the clip; events: (ms of the clip, trigger), the first MOST of which get their picture."""
        self.shots: list[Shot] = []
        self._step_ms = max(duration_ms / max(1, MOST - len(events)), _LEAST_MS)
        self._due_ms = 0.0
        self._events = sorted(events)
        self._left = MOST  # events that get a picture out of turn
        self._first_ms = self._events[0][0] if events else None

    def take(self, at_ms: int, unix_ms: int | None, picture: Picture) -> None:
        """Keep a picture if it is one of the sheet's."""
        past = [trigger for when, trigger in self._events if when <= at_ms]
        self._events = self._events[len(past) :]
        if at_ms < self._due_ms:
            if not past or not self._left:
                return
            self._left -= 1
        if self._due_ms <= at_ms:
            self._due_ms = (at_ms // self._step_ms + 1) * self._step_ms
        small = picture()
        small.thumbnail((_WIDTH * 2, _WIDTH * 2))
        since_ms = None if self._first_ms is None else at_ms - self._first_ms
        beside = "" if since_ms is None else "before" if since_ms < 0 else "after"
        phase = ", ".join(dict.fromkeys(map(word, past))) or beside
        self.shots.append(Shot(small, at_ms, unix_ms, tuple(past), phase, since_ms))

    def png(self, path: Path, title: str, below: str, stamp: str) -> None:
        """Write the sheet; `stamp` stands across its head."""
        heights = (_WIDTH * s.picture.height // s.picture.width for s in self.shots)
        height = min(max(heights, default=_WIDTH * 3 // 4), _HIGHEST)
        columns = min(_COLUMNS, max(2, len(self.shots)))
        rows = -(-max(1, len(self.shots)) // columns)
        width = 2 * _EDGE + columns * (_WIDTH + _GAP) - _GAP
        sheet = Image.new("RGB", (width, 2 * _EDGE + _TITLE + rows * (height + _LABEL + _GAP) - _GAP), "white")
        pen = ImageDraw.Draw(sheet)
        pen.text((_EDGE, _EDGE - 4), title, _INK, ImageFont.load_default(22))
        pen.text((_EDGE, _EDGE + 28), below, _DIM, ImageFont.load_default(15))
        for n, shot in enumerate(self.shots):
            x = _EDGE + n % columns * (_WIDTH + _GAP)
            y = _EDGE + _TITLE + n // columns * (height + _LABEL + _GAP)
            _draw(sheet, pen, shot, (x, y), height)
        if stamp:
            font = ImageFont.load_default(30)
            pen.text((width - _EDGE, _EDGE), stamp, RED, font, anchor="ra", stroke_width=1, stroke_fill=RED)
        sheet.save(path)


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, shot: Shot, at: tuple[int, int], height: int) -> None:
    x, y = at
    scale = min(_WIDTH / shot.picture.width, height / shot.picture.height)
    size = (max(1, round(shot.picture.width * scale)), max(1, round(shot.picture.height * scale)))
    sheet.paste(shot.picture.resize(size, Image.Resampling.LANCZOS), at)
    if shot.colour:
        frame = (x - _FRAME, y - _FRAME, x + size[0] + _FRAME - 1, y + size[1] + _FRAME - 1)
        pen.rectangle(frame, outline=shot.colour, width=_FRAME)
    font, below = ImageFont.load_default(15), y + height + 8
    pen.text((x, below), shot.when, _INK, font)
    pen.text((x + _WIDTH, below), shot.offset, _DIM, font, anchor="ra")
    pen.text((x, below + 17), shot.phase, shot.colour or _DIM, font)
