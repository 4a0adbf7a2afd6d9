"""What both halves of a hub use of their channel."""

from typing import Protocol

from patrolink.hub.channel.messages import Message


class Handler(Protocol):
    """Handles what one half receives. Methods do not block."""

    def connected(self) -> None:
        """Send the own state: a connection was made."""

    def received(self, message: Message) -> None:
        """Process a message."""

    def disconnected(self) -> None:
        """Forget what belonged to the connection, which has ended."""


class Channel(Protocol):
    """One end of the channel."""

    def send(self, message: Message) -> None:
        """Send a message. It is dropped without a connection: the state that is sent after the next one has it."""

    async def drain(self) -> None:
        """Wait until there is space for more messages. Large states are sent in portions."""

    async def run(self, handler: Handler) -> None:
        """Hold the channel and handle what is received, until cancelled."""
