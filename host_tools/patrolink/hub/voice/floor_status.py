"""Describes floors and groups as JSON-ready data, for the console and the status page."""

from typing import Any

from patrolink_protocol import mcptt

from patrolink.hub.voice.floor import Floor


def floor_status(floor: Floor) -> dict[str, Any]:
    """Return the state of a group's floor."""
    burst = floor.burst
    return {
        "state": floor.state.value,
        "talker": burst.member.name if burst else None,
        "ssrc": burst.ssrc if burst else None,
        "since_ms": burst.began_ms if burst else None,
        "ends_ms": burst.ends_ms if burst else None,
        "emergency": bool(burst and burst.indicator & mcptt.EMERGENCY),
        "broadcast": bool(burst and burst.indicator & mcptt.BROADCAST),
        "queue": [entry.member.name for entry in floor.queue],
        "present": sum(member.present for member in floor.members.values()),
        "members": len(floor.members),
    }
