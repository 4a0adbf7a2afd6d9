"""The hub of a site: push-to-talk voice, dispatchers, incidents, clips and live view."""
