"""Paths of the checkout, relative to this file, so that importing a test needs no search."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
DEMO_VIDEO = ROOT / "build" / "media" / "bikes.mp4"  # `make media` downloads it
