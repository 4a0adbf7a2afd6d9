"""The Patrolink wire protocol (SPEC.md, PTT.md, CLIP.md): codecs shared by devices (MicroPython subset) and hosts."""
