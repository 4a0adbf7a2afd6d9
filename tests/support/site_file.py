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


def keys_of(names) -> dict[str, bytes]:
    """Return a device key for each name, derived from the name."""
    return {name: hashlib.sha256(name.encode()).digest() for name in names}


def write_site(folder, text: str, names) -> None:
    """Write `site.toml` with this text and `keys.toml` with the keys of devices."""
    keys = folder / "keys.toml"
    keys.write_text("[devices]\n" + "".join(f'"{n}" = "{k.hex()}"\n' for n, k in keys_of(names).items()))
    keys.chmod(0o600)
    (folder / "site.toml").write_text(text)
