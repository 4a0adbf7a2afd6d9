"""Clips at the site: what reads, proves and keeps the video that devices recorded (protocol/CLIP.md)."""
