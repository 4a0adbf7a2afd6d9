"""Text from outside for a terminal."""


def printable(text: str) -> str:
    """Replace unprintable characters: a name from outside must not control the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
