"""The Patrolink wire protocol: one codec for devices (MicroPython subset) and hosts. See ../SPEC.md."""
