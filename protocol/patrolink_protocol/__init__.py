"""The Patrolink wire protocol (SPEC.md, PTT.md, CLIP.md): codecs shared by devices (MicroPython subset) and hosts."""

VERSION = "0.1.0"  # of everything in this repository: firmware, protocol package and host tools
