"""The Patrolink wire protocol (SPEC, PTT, CLIP and IMAGE.md): codecs for devices (MicroPython subset) and hosts."""

VERSION = "0.1.0"  # of everything in this repository: firmware, protocol package and host tools
