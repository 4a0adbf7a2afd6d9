"""Site files of hubs in tests, and the keys of their devices."""

import hashlib

SITE_TEMPLATE = """name = "test.example"
keys = "keys.toml"
broker = "{url}"
{top}
[[hub]]
host = "127.0.0.1"
listen = "127.0.0.1"
floor_port = {ports[0]}
media_port = {ports[1]}
{hub}
{groups}
"""
GROUP_TEMPLATE = """[[group]]
id = {id}
name = "group {id}"
{more}
[[group.member]]
devices = {devices}
priority = 10
rights = ["talk", "emergency"]
"""
TOKEN = "a token of 256 bits would be longer"  # noqa: S105
OTHER = "another one"
DISPATCHERS = "".join(
    f'[[dispatcher]]\nname = "{name}"\ntoken_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\npriority = 200\n'
    for name, token in (("duty", TOKEN), ("second", OTHER))
)
# The console's site
DEVICES = ["police-1", *(f"vest-{i}" for i in range(1, 9))]
HARBOUR, CIRCLE, NIGHT = 1, 2, 3
GROUPS = """
[[group]]
id = 1
name = "Harbour circle"
[[group.member]]
devices = ["vest-1", "vest-2", "vest-3", "police-1"]
priority = 10
rights = ["talk", "emergency"]
[[group]]
id = 2
name = "港口巡逻队"
preempt = false
[[group.member]]
devices = ["vest-4", "vest-5", "vest-6"]
priority = 10
rights = ["talk", "emergency"]
[[group]]
id = 3
name = "Old town, night"
[[group.member]]
devices = ["vest-6", "vest-7", "vest-8", "police-1"]
priority = 10
rights = ["talk", "emergency"]
"""


def keys_of(names) -> dict[str, bytes]:
    """Return a device key for each name, derived from the name."""
    return {name: hashlib.sha256(name.encode()).digest() for name in names}


def write_site(folder, text: str, names) -> None:
    """Write `site.toml` with this text and `keys.toml` with the keys of devices."""
    keys = folder / "keys.toml"
    keys.write_text("[devices]\n" + "".join(f'"{n}" = "{k.hex()}"\n' for n, k in keys_of(names).items()))
    keys.chmod(0o600)
    (folder / "site.toml").write_text(text)
