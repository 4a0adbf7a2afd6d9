"""Differences between a table of devices, the site's keys and memberships, the configurations and the ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from patrolink.core import keys
from patrolink.flash import ledger
from patrolink.flash.ledger import Content, Event
from patrolink.flash.provision import configuration, members_file
from patrolink.flash.provision.plan import Plan
from patrolink.flash.provision.provision_site import ProvisionSite


class Difference(NamedTuple):
    """One difference.

    Attributes:
        device: Id of the device; empty if it concerns no single one.
        text: What differs, and what to do.
    """

    device: str
    text: str


_RUN = "provision it"


def find(site: ProvisionSite, plan: Plan, content: Content, out: Path | None) -> list[Difference]:
    """Return the differences, those of one device together.

    Args:
        site: The site.
        plan: What provisioning the table would write.
        content: The ledger.
        out: Folder of the configurations; None: they are not compared.
    """
    history = ledger.progress(content.events)
    known = keys.parse(site.keys_path, site.read_keys())
    result = [Difference("", f"ledger: {text}") for text in content.damage]
    listed = {device.name for device in plan.devices}
    for device in plan.devices:
        texts: list[str] = []
        if device.name not in known:
            texts.append(f"no key in {site.keys_path.name}; {_RUN}")
        if device.name in plan.barred:
            texts.append(plan.barred[device.name])
        done = history.get(device.name, {})
        texts += _differing_event(device.event("", site.consent), done.get("provision"))
        if _is_revoked(done) and device.name not in plan.barred:
            texts.append("revoked according to the ledger, but not barred; remove its row, or provision it again")
        result += [Difference(device.name, text) for text in texts]
        if out is not None:
            result += [
                Difference(device.name, text) for text in _differing_files(device.name, device.config, plan.ca, out)
            ]
    for name in sorted(known.keys() - listed):
        result.append(
            Difference(name, f"has a key in {site.keys_path.name}, but no row; add a row, or bar it with --revoke")
        )
    for name in sorted(history.keys() - listed - known.keys()):
        has_id = any(event.device for event in history[name].values())  # else it was flashed only
        if has_id and not _is_revoked(history[name]):
            result.append(
                Difference(name, "is in the ledger, but has neither row nor key; add a row, or restore its key")
            )
    members = site.members_path.read_bytes() if site.members_path.exists() else members_file.HEADER
    if members != plan.members:
        result.append(Difference("", f"{site.members_path.name} does not have the groups of the table; {_RUN}"))
    return result


def _is_revoked(steps: dict[str, Event]) -> bool:
    """Return whether a device was revoked in the epoch of its last provisioning."""
    revoke, provision = steps.get("revoke"), steps.get("provision")
    return revoke is not None and (provision is None or provision.epoch <= revoke.epoch)


def _differing_event(event: Event, done: Event | None) -> Iterator[str]:
    if done is None or done.result != ledger.OK:
        yield f"not provisioned according to the ledger; {_RUN}"
        return
    for name in ("serial", "unique_id", "epoch", "consent"):
        now, then = getattr(event, name), getattr(done, name)
        if now != then:
            yield f"{name} is {now or 'empty'}, in the ledger {then or 'empty'}; {_RUN} again, or correct the table"
    if event.sha256 != done.sha256:
        yield f"its configuration has changed since it was provisioned; {_RUN} again"


def _differing_files(device: str, config: bytes, ca: bytes, out: Path) -> Iterator[str]:
    for name, expected in ((configuration.FILE, config), (configuration.CA_FILE, ca)):
        path = out / device / name
        if expected and not path.exists():
            yield f"{path} is missing; {_RUN}"
        elif expected and path.read_bytes() != expected:
            yield f"{path} differs; {_RUN} again"
