"""Dispatchers at a hub: sessions, the console and its page, commands to devices."""
