"""Emulated peripherals of a device: receiver, modem, camera, headset, flash."""
