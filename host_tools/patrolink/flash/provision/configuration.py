"""Configurations of devices, made from the site file and the board, and checked by the agent's own code."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patrolink.core import resources
from patrolink.core.boards import Board
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.core.text import plural
from patrolink.hub.config import ProvisionConfig

FILE, CA_FILE = "config.json", "ca.pem"
_CHECK_TIMEOUT_S = 120
# Runs in a process of its own: host tools do not import the agent. It reads paths, and prints one JSON text per path.
_CHECK = """
import json, sys
sys.path[:0] = sys.argv[1:]
from app.config import load_config
from app.errors import ConfigError
for line in sys.stdin:
    path, error = json.loads(line), ""
    try:
        load_config(path)
    except ConfigError as e:
        error = str(e).replace(path + ": ", "")
    print(json.dumps(error), flush=True)
"""


class ConfigurationBuilder:
    """Builds configurations for the devices of a site.

    Args:
        site: Name of the site.
        provision: The site's table [provision].
        evidence_key: Public half of the site's evidence key; empty if the site has none.
    """

    def __init__(self, site: str, provision: ProvisionConfig, evidence_key: bytes) -> None:
        self._site, self._provision, self._evidence_key = site, provision, evidence_key

    def build(self, device: str, key: DeviceKey, board: Board) -> dict[str, Any]:
        """Return the configuration of a device.

        Later sources replace values of earlier ones: the board, the broker of [provision], its `config`, its table for
        the board, and the identity.
        """
        baremetal = board.hal == "baremetal"
        broker: dict[str, Any] = {"host": self._provision.broker_host, "port": self._provision.broker_port}
        if self._provision.broker_ca:
            broker["tls"] = {"ca": f"/{CA_FILE}" if baremetal else CA_FILE}
        site_values = _merged(self._provision.config, self._provision.board.get(board.name, {}))
        board_values = board.config()
        if "camera" not in site_values:  # its source and indicator are not known
            board_values.pop("camera", None)
        config = _merged(board_values, {"state_dir": "/state" if baremetal else "state", "broker": broker})
        config = _merged(config, site_values)
        if "clips" in config and self._evidence_key:
            config = _merged({"clips": {"evidence_key": self._evidence_key.hex()}}, config)
        identity = {"device": device, "key": key.secret.hex(), "key_epoch": key.epoch, "board": board.name}
        return _merged(config, {**identity, "ptt": {"site": self._site}})


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both objects in one; where both have a value, `more` has the say, and objects are merged in turn."""
    result = dict(base)
    for name, value in more.items():
        earlier = result.get(name)
        both = isinstance(earlier, Mapping) and isinstance(value, Mapping)
        result[name] = _merged(earlier, value) if both else value  # type: ignore[arg-type]
    return result


def encode(config: Mapping[str, Any]) -> bytes:
    """Return the content of a configuration file, the same for the same configuration."""
    return json.dumps(config, indent=1, sort_keys=True).encode() + b"\n"


def check(paths: Sequence[Path]) -> list[str]:
    """Check configuration files with the code of the agent.

    Returns:
        The error of each file, which names the key; empty for a valid one.

    Raises:
        UserError: The sources of the agent cannot be run.
    """
    root = resources.root()
    folders = [str(root / name) for name in ("device", "protocol", "protocol/generated")]
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", _CHECK, *folders],
            input="".join(json.dumps(str(path)) + "\n" for path in paths),
            capture_output=True,
            text=True,
            timeout=_CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{plural(len(paths), 'configuration')} not checked within {_CHECK_TIMEOUT_S} s; nothing was written, "
            "repeat when the machine is less busy"
        ) from None
    errors = [str(json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode or len(errors) != len(paths):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"the agent in {root} cannot check configurations ({last}); install the package again")
    return errors
