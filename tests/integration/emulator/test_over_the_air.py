"""The emulated board updates over the air: the campaigns of the hub, real firmware, the model of a mobile network."""

import pytest
from patrolink.emulator.network.carrier import PROFILES
from patrolink.flash.image import build
from patrolink.flash.image.image_file import Image

from tests.support import agent_images
from tests.support.agent_images import BOARD, packed
from tests.support.update_shift import UpdateShift

SEED = 3
HOURS = 0.03
OFFER_MS = 20_000
BUG = "def start(*arguments):\n    raise ValueError('bug of the new image')\n"
pytestmark = pytest.mark.skipif(
    bool(BOARD.missing_packages()), reason="the packages of board mps2_an385 are not installed"
)


@pytest.fixture(scope="module")
def agent() -> Image:
    """The agent image, version 1.0."""
    return agent_images.build_agent()


@pytest.fixture(scope="module")
def newer(agent) -> Image:
    """Version 2.0: one more file."""
    return agent_images.with_file(agent, "notes.txt", b"version 2")


def shift(agent: Image, **named) -> UpdateShift:
    """Return a shift of a board that runs the agent from slot a."""
    run = UpdateShift(BOARD, PROFILES["city"], SEED, **named)
    run.slots.install(agent.payload, 1, confirmed=True)
    return run


def log(run: UpdateShift) -> str:
    return "\n".join(run.log)


def states(run: UpdateShift) -> list[str]:
    return [state for state, _ in run.statuses()]


def check_confirmed(run: UpdateShift, slot: int = 1) -> None:
    state = run.slots.journal.state
    assert state.slots[slot].confirmed and state.floor == 2, log(run)
    (campaign,) = run.updates.rows(10)
    assert campaign["update_states"] == {"confirmed": 1}


def test_delta_is_installed_and_confirmed_in_less_than_a_minute(agent, newer):
    run = shift(agent)
    run.plan(packed(agent, newer), OFFER_MS)
    report = run.run(HOURS)
    assert run.statuses() == [("installed", "none"), ("confirmed", "none")], log(run)
    check_confirmed(run)
    hello = [row for _, row in run.rows if row["record"] == "hello"][-1]
    assert hello["content"] == newer.header.sha256[:8].hex() and "firmware_update" in hello["profiles"]
    assert (hello["platform"], hello["rollback_floor"]) == (1, 1)
    assert run.confirmed_ms - run.command_ms < 60_000 and run.air_bytes - run.track_bytes <= 2048
    assert report.problems == [] and report.flash_violations == 0
    assert report.lost <= 1  # the fix of the second in which the board restarts


def test_agent_of_the_platform_gets_a_packed_full_image(agent, newer):
    run = UpdateShift(BOARD, PROFILES["city"], SEED)
    run.plan(packed(None, newer), OFFER_MS)
    run.run(0.06)
    assert states(run) == ["fetching", "installed", "confirmed"], log(run)
    check_confirmed(run, slot=0)


def test_image_that_crashes_is_reported_by_the_previous_one(agent, newer, tmp_path):
    source = tmp_path / "start.py"
    source.write_text(BUG)
    module = build.compile_module(source, tmp_path, BOARD.architecture)
    bad = agent_images.with_file(agent, "app/start.mpy", module)
    run = shift(agent)
    run.plan(packed(agent, bad), OFFER_MS)
    run.run(0.04)
    assert states(run)[-2:] == ["installed", "rolled_back"], log(run)
    (campaign,) = run.updates.rows(10)
    assert campaign["update_states"] == {"failed": 1}
    state = run.slots.journal.state
    assert state.slots[0].confirmed and state.slots[1].failed


def test_image_of_an_unknown_key_is_refused_before_its_payload_is_fetched(agent, newer):
    run = shift(agent)
    run.plan(packed(None, newer, key="somebody"), OFFER_MS)
    run.run(HOURS)
    assert run.statuses() == [("refused", "signature")] and run.blocks == 900, log(run)


def test_update_waits_for_the_end_of_an_sos(agent, newer):
    run = shift(agent, sos_h=(OFFER_MS / 3_600_000,))
    run.plan(packed(agent, newer), OFFER_MS)
    run.run(HOURS)
    assert run.statuses() == [("deferred", "sos")], log(run)
    (campaign,) = run.updates.rows(10)
    assert campaign["update_states"] == {"deferred": 1} and run.slots.journal.state.slots[1].install == 0


@pytest.mark.parametrize("operation", [30, 60, 90])
def test_power_cut_during_an_update_costs_nothing(agent, newer, operation):
    run = shift(agent, cut=operation)
    run.plan(packed(None, newer), OFFER_MS)
    report = run.run(0.08)
    assert report.power_cuts == 1 and states(run)[-1] == "confirmed", log(run)
    check_confirmed(run)
