"""Alarms and their life at the hub."""
