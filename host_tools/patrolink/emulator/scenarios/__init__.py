"""Scenarios that the emulator plays: patrols, calls, incidents and shifts."""
