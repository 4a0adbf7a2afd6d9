"""Profiles: what a vendor claims about an implementation, in a TOML file.

    name = "Vendor X pager, firmware 3.1"

    [claims]
    rice = "yes"
    encode = "no"

    [stimulus]
    sos = ["./press", "sos"]      # device tier: commands that do what a person would do

Every claim of the tier must be there with "yes" or "no". Claims are checked against `hello`, the types that the device
sends, and probes of what was denied; a claim never removes a case of a security requirement.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import patrolink_messages as m
from pydantic import BaseModel, ConfigDict, Field

from patrolink.conformance.case import CODEC, DEVICE, INTERFACE_CLAIMS, Case
from patrolink.core import settings_file
from patrolink.core.errors import UserError

EXIT_CODE = 3
YES, NO = "yes", "no"
_EXAMPLE = "`patrolink validate --example codec`"


class ProfileError(UserError):
    """A profile, or a list of known failures, is wrong."""

    exit_code = EXIT_CODE


class ClaimRule(NamedTuple):
    """What is known about a claim.

    Attributes:
        tier: Tier that it belongs to.
        doc: What it means, in one line.
        bit: Its name in `profiles` of hello; empty: it has none.
        types: Types of messages that only a device with this capability sends.
    """

    tier: str
    doc: str
    bit: str = ""
    types: tuple[int, ...] = ()


CLAIMS: dict[str, ClaimRule] = {
    "rice": ClaimRule(CODEC, "decodes Rice and zero-run columns of batches"),
    "encode": ClaimRule(CODEC, "encodes messages: request E"),
    "batch_encode": ClaimRule(CODEC, "encodes batches: request B"),
    "serial": ClaimRule(CODEC, "packs and unpacks serial packets: requests P and U"),
    "rice_batches": ClaimRule(DEVICE, "sends Rice and zero-run columns", "rice"),
    "ptt": ClaimRule(DEVICE, "push-to-talk", "ptt", (m.PTT_BURST, m.PTT_STATUS)),
    "video": ClaimRule(DEVICE, "records clips", "video", (m.CLIP_MANIFEST,)),
    "live_view": ClaimRule(DEVICE, "live view", "live_view"),
    # A device without updates answers `firmware` as well: with the status `refused`.
    "firmware_update": ClaimRule(DEVICE, "updates over the air", "firmware_update", (m.FIRMWARE_REQUEST,)),
    "hazard_photo": ClaimRule(DEVICE, "pictures of hazards", "hazard_photo"),
    "long_batch": ClaimRule(DEVICE, "batches of more than 60 rows", "long_batch"),
    "sos": ClaimRule(DEVICE, "SOS events", "", (m.EVENT,)),
    "text": ClaimRule(DEVICE, "texts", "", (m.TEXT, m.TEXT_STATE)),
    "duty": ClaimRule(DEVICE, "duty and patrol summaries", "", (m.DUTY, m.PATROL_SUMMARY)),
    "hazard": ClaimRule(DEVICE, "hazard reports", "", (m.HAZARD,)),
    "certify": ClaimRule(DEVICE, "certification mode", "", (m.CERTIFY,)),
    "key_rotation": ClaimRule(DEVICE, "rotates its key on the command rotate_key"),
    "positions": ClaimRule(DEVICE, "has positions during the test, of a receiver or a simulation"),
    "virtual_clock": ClaimRule(DEVICE, "the testee on a pipe runs on a clock that the kit controls"),
    "link_control": ClaimRule(DEVICE, "the testee on a pipe obeys the packets that cut its link"),
}


_OF_TESTEES = ("virtual_clock", "link_control")


class _ProfileModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    claims: dict[str, Literal["yes", "no", "undeclared"]]
    stimulus: dict[str, list[str]] = {}


class Profile(NamedTuple):
    """Claims about an implementation.

    Attributes:
        name: Name for people.
        sha256: Of the file; empty without a file.
        claims: Claim → "yes" or "no", of one tier.
        stimuli: Name of a stimulus → command.
    """

    name: str
    sha256: str
    claims: Mapping[str, str]
    stimuli: Mapping[str, list[str]]

    def fields(self) -> dict[str, Any]:
        """Return what a report says about the profile."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "claims": dict(self.claims),
            "stimuli": sorted(self.stimuli),
        }

    def denied(self, case: Case) -> str:
        """Return the claim that makes a case not applicable, or ""."""
        return denied(self.claims, case)


def denied(claims: Mapping[str, str], case: Case) -> str:
    """Return the claim that makes a case not applicable, or "". Security requirements always apply."""
    relevant = [name for name in (case.claim, *case.needs) if name in INTERFACE_CLAIMS or not case.security]
    return next((name for name in relevant if claims.get(name) == NO), "")


def of_tier(tier: str) -> list[str]:
    """Return the claims of a tier."""
    return [name for name, rule in CLAIMS.items() if rule.tier == tier]


def complete(tier: str) -> Profile:
    """Return the profile that is used without a file: every capability is claimed, but not what only testees have."""
    claims = {name: NO if name in _OF_TESTEES else YES for name in of_tier(tier)}
    return Profile("", "", claims, {})


def load(path: Path, tier: str) -> Profile:
    """Read a profile.

    Args:
        path: The file.
        tier: Tier that is run; all its claims must be declared.

    Raises:
        ProfileError: The file cannot be read, has unknown keys, or leaves a claim undeclared.
    """
    known = [*_ProfileModel.model_fields, *CLAIMS]
    try:
        model = settings_file.load(path, _ProfileModel, known, _EXAMPLE, "name a profile with --profile")
    except UserError as e:
        raise ProfileError(str(e)) from None
    wrong = sorted(model.claims.keys() - CLAIMS.keys())
    if wrong:
        raise ProfileError(f"{path}: claims.{wrong[0]}: unknown claim; known claims are {', '.join(CLAIMS)}")
    missing = [name for name in of_tier(tier) if model.claims.get(name, "undeclared") == "undeclared"]
    if missing:
        raise ProfileError(f'{path}: undeclared: {", ".join(missing)}; declare each claim as "yes" or "no" in [claims]')
    empty = [name for name, command in model.stimulus.items() if not command]
    if empty:
        raise ProfileError(f"{path}: stimulus.{empty[0]}: no command; write a list of words")
    claims = {name: model.claims[name] for name in of_tier(tier)}
    return Profile(model.name, hashlib.sha256(path.read_bytes()).hexdigest(), claims, model.stimulus)


def example(tier: str) -> str:
    """Return a profile in which nothing is declared."""
    lines = [f'{name} = "undeclared"  # {CLAIMS[name].doc}' for name in of_tier(tier)]
    return "\n".join(['name = "vendor, product and version"', "", "[claims]", *lines, ""])
