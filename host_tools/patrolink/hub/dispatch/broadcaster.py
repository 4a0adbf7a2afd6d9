"""Delivers messages to all dispatchers that are connected."""

from typing import Any

from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.infra.metrics import Metrics


class Broadcaster:
    """The message queues of all dispatcher sessions."""

    def __init__(self, metrics: Metrics) -> None:
        self._queues: list[MessageQueue] = []
        metrics.gauges["dispatchers"] = self._queues.__len__

    def __len__(self) -> int:
        """Return the number of connected dispatchers."""
        return len(self._queues)

    def add(self, queue: MessageQueue) -> None:
        """Deliver to this queue from now on."""
        self._queues.append(queue)

    def remove(self, queue: MessageQueue) -> None:
        """Stop delivering to a queue."""
        self._queues.remove(queue)

    def broadcast(self, message: dict[str, Any]) -> None:
        """Put a JSON-ready message into every queue."""
        for queue in self._queues:
            queue.put(message)
