"""Sends ptt_status: the groups and keys that the device holds, through the broker.

It reaches the hubs of which the device knows no group, and all hubs where UDP is blocked. The receiver reports on the
floor sockets hold the same entries and are sent more often.
"""

import patrolink_messages as m
from patrolink_protocol.native import const

_COALESCE_MS = const(1000)  # the hub sends the messages of several groups at once


class PttStatus:
    """Sends a message when a session begins, after changes of groups and keys, and periodically during a session.

    Args:
        client: PttClient.
        session: agent.link.session.Session.
        send: function(message type, values).
        period_s: seconds between two messages.
    """

    def __init__(self, client, session, send, period_s):
        self._client = client
        self._session = session
        self._send = send
        self._period_ms = period_s * 1000
        self._due_ms = 0
        self._connects = 0  # sessions so far at the last message
        self._changes = 0  # changes so far at the last message
        self._changed_ms = None  # when a later change was seen

    def poll(self, now_ms):
        """Send a message when one is due. A report that waited for the next session would be outdated."""
        if not self._session.is_open:
            return
        client = self._client
        if client.changes != self._changes and self._changed_ms is None:
            self._changed_ms = now_ms
        is_changed = self._changed_ms is not None and now_ms - self._changed_ms >= _COALESCE_MS
        if is_changed or now_ms >= self._due_ms or self._session.connects != self._connects:
            self._due_ms = now_ms + self._period_ms
            self._connects = self._session.connects
            self._changes = client.changes
            self._changed_ms = None
            self._send(m.PTT_STATUS, {"room": client.room(), "groups": client.report_entries()})
