"""Push-to-talk voice of a hub: floor control, relay and recorder."""
