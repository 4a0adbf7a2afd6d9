"""The counts of a decoder and its source as text, for `decode` and `monitor`."""

from typing import TYPE_CHECKING

from patrolink.core.text import plural

if TYPE_CHECKING:
    from patrolink.core.decoder import DecoderStats


def summary_text(stats: "DecoderStats", counts: dict[str, int]) -> str:
    """Return one line.

    Args:
        stats: Counts of the decoder.
        counts: Input that the source could not use, by kind, as `Transport.counts` returns it.
    """
    parts = [plural(stats.frames, "frame"), plural(stats.fixes, "fix"), f"{stats.duplicates} repeated"]
    parts += [f"{count} refused ({reason})" for reason, count in stats.rejected.items()]
    for name, text in (("damaged", "damaged place"), ("line_errors", "invalid block"), ("dropped", "dropped frame")):
        if counts.get(name):
            parts.append(plural(counts[name], text))
    if counts.get("truncated"):
        parts.append("the last record is incomplete")
    return ", ".join(parts)
