"""Writes images to devices on ports: one contract for all methods, many devices at a time. Provisions devices."""
