"""Emulation of devices, their peripherals and their network."""
