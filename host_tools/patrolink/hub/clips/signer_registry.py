"""The public keys that devices sign manifests with, pinned at their first announcement (<clips>/signers.toml)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.evidence.clip_folders import SIGNERS_FILE, format_signers, read_signers
from patrolink.hub.infra import persistence
from patrolink.hub.infra.metrics import Metrics

_KEYS_MAX = 16  # of a device


class SignerRegistry:
    """The signing keys of all devices.

    Args:
        folder: The site's folder of clips.
        audit: Records facts in the audit log: (who, what, **facts).
        notify: Sends a message to all dispatchers.
        metrics: Counters of the hub.
    """

    def __init__(
        self, folder: Path, audit: Callable[..., None], notify: Callable[[dict[str, Any]], None], metrics: Metrics
    ) -> None:
        self.path = folder / SIGNERS_FILE
        self.signers: dict[str, list[str]] = read_signers(self.path) if self.path.exists() else {}
        self._audit, self._notify, self._metrics = audit, notify, metrics

    def pin(self, device: str, signer: str) -> bool:
        """Trust a key that a device announced under its tag; dispatchers are notified of a second one.

        Returns:
            Whether the key is trusted: a device has 16 keys at most.
        """
        known = self.signers.setdefault(device, [])
        if signer in known or len(known) >= _KEYS_MAX:
            return signer in known
        what = "signer changed" if known else "signer"
        self._audit(device, what, signer=signer, known=list(known))
        known.append(signer)
        try:
            text = format_signers({name: keys for name, keys in self.signers.items() if keys})
            persistence.replace_file(self.path, text.encode())
        except (
            OSError
        ):  # after a restart the key is pinned again: the device announces its clips until it has a verdict
            self._metrics.counts["storage_failed"] += 1
        if what == "signer changed":
            self._notify({"type": "signer", "device": device, "signer": signer})
        return True
