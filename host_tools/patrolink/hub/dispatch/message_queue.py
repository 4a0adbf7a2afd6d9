"""Queue of messages to one dispatcher. It is bounded: a slow reader loses the oldest messages."""

import asyncio
from collections import deque

from patrolink.hub.dispatch.messages import LiveFrame, Message

_MAX_MESSAGES = 500


class MessageQueue:
    """Messages from the hub to one dispatcher.

    Args:
        name: Name of the dispatcher.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._messages: deque[Message] = deque()
        self._pictures: dict[int, LiveFrame] = {}  # the newest of each view; the view that waits longest is first
        self._ready = asyncio.Event()
        self._lost = 0

    def put(self, message: Message) -> None:
        """Append a message. The oldest one is dropped and counted if the queue is full."""
        if len(self._messages) >= _MAX_MESSAGES:
            self._messages.popleft()
            self._lost += 1
        self._messages.append(message)
        self._ready.set()

    def put_picture(self, frame: LiveFrame) -> bool:
        """Set the newest picture of a view. Returns False if it replaces one that was not read yet."""
        replaced = self._pictures.get(frame.view)
        self._pictures[frame.view] = frame
        self._ready.set()
        return replaced is None

    async def next(self) -> Message:
        """Wait for the next message and return it.

        Messages come in order. After a loss, `{"type": "lost", "count": ...}` comes first. Pictures come only while no
        message is waiting.
        """
        while not self._messages and not self._lost and not self._pictures:
            self._ready.clear()
            await self._ready.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"type": "lost", "count": lost}
        if self._messages:
            return self._messages.popleft()
        return self._pictures.pop(next(iter(self._pictures)))
