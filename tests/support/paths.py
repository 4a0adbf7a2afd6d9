"""Paths of the checkout that tests use. Built from this file's place: importing a test looks nothing up."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
DEMO_VIDEO = ROOT / "build" / "media" / "bikes.mp4"  # `make media` downloads it
