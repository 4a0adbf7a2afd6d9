"""Commands of the supervisor to the processes of a hub, on their standard input."""

GO = b"g"  # begin: nothing is opened or written before
STOP = b"s"  # end in order
