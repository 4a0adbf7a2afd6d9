"""Provisioning: from a site file and a table of devices to keys, configurations, memberships and labels."""
