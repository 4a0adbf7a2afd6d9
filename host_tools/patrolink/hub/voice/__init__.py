"""Voice at the hub: floor control, relay and recorder."""
