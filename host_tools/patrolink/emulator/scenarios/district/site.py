"""Files of a simulated site: keys, site file, and state of a hub that has run for long."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from patrolink.core import keys
from patrolink.core.keys import DeviceKey
from patrolink.emulator.scenarios.district.board import HUB_HOST, LIVE_PORT, UPLOAD_PORT
from patrolink.hub.config import Dispatcher

SITE = "district.example"
DISPATCHERS = ("anna", "bo")
MORE_DISPATCHERS = ("anna", "bo", "chen", "dora")
_FLOOR_PORT, _MEDIA_PORT = 5004, 5006
_FIRST_BURST = (1 << 27) - (1 << 16) - 20  # the hub renews all group keys after 20 bursts, and after each later start


def write_site(
    folder: Path,
    device_keys: Mapping[str, DeviceKey],
    groups: Sequence[Sequence[str]],
    dispatchers: Sequence[Dispatcher],
    permits_listening: bool,
) -> Path:
    """Write all files of a site, and return the path of the site file.

    Args:
        folder: Where they are written.
        device_keys: Key of each device.
        groups: Devices of each group; those with an odd number have sound, and become members.
        dispatchers: Who may use the console.
        permits_listening: Whether dispatchers may listen to devices.
    """
    keys.write(folder / "keys.toml", {name: key.secret for name, key in device_keys.items()})
    lines = [
        f'name = "{SITE}"', 'keys = "keys.toml"', 'broker = "mqtt://broker"',
        f"ambient_listening = {str(permits_listening).lower()}", "[[hub]]",
        f'host = "{HUB_HOST}"', f"floor_port = {_FLOOR_PORT}", f"media_port = {_MEDIA_PORT}",
        f'uploads = "127.0.0.1:{UPLOAD_PORT}"', f"live_port = {LIVE_PORT}",
    ]  # fmt: skip
    for number, members in enumerate(groups, 1):
        voiced = [name for name in members if int(name[1:]) % 2]
        if voiced:
            lines += ["[[group]]", f"id = {number}", f'name = "Circle {number}"', "talk_s = 10"]
            lines += ["[[group.member]]", f"devices = {voiced}", 'rights = ["talk", "emergency"]']
    for dispatcher in dispatchers:
        lines += ["[[dispatcher]]", f'name = "{dispatcher.name}"', f'token_sha256 = "{dispatcher.token_sha256}"']
    state = folder / "state" / "shard-0"
    state.mkdir(parents=True)
    (state / "burst.json").write_text(str(_FIRST_BURST))
    path = folder / "site.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
