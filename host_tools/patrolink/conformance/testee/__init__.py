"""Testees: a codec on a pipe, and devices on a pipe, a serial line or a broker."""
