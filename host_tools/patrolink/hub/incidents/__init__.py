"""Incidents: events of devices that a dispatcher has to handle."""
