"""Emulated boards: processes, firmware under QEMU, and boards on a virtual clock."""
