"""Parts of update campaigns: which image a device gets, and the file of decisions."""

import pytest
from patrolink.core.errors import UserError
from patrolink.hub.updates.campaign_file import CampaignFile
from patrolink.hub.updates.image_choice import choose

from tests.support.campaigns import DELTA, FULL, NEW, OTHER, facts, image, plan

TEN = [f"vest-{n}" for n in range(10)]


# --- choice of the image ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "with_delta", "chosen"),
    [(facts(), True, DELTA), (facts(), False, FULL), (facts(content=OTHER), True, FULL), (facts(floor=5), True, DELTA)],
)
def test_smallest_image_that_fits_is_chosen(device, with_delta, chosen):
    assert choose(device, [FULL, DELTA], with_delta) == (chosen, "")


def test_packed_image_is_preferred_to_the_plain_one():
    packed = image(400)
    assert choose(facts(content=OTHER), [FULL, DELTA, packed]).image is packed


@pytest.mark.parametrize(
    ("device", "images", "reason"),
    [
        (facts(platform=0), [FULL], "has no slots; flash it by cable"),
        (facts(board="rpi_pico"), [FULL], "no image for board rpi_pico"),
        (facts(content=NEW), [FULL], "runs version 2.0 already"),
        (facts(floor=6), [FULL], "rollback number 5 is below 6"),
        (facts(), [image(9, platform=2)], "needs platform 2"),
        (facts(content=OTHER), [DELTA], "none for the agent that runs"),
    ],
)
def test_device_without_a_fitting_image_gets_none(device, images, reason):
    choice = choose(device, images)
    assert choice.image is None and reason in choice.reason


# --- the file --------------------------------------------------------------------------------------------------------


def test_campaigns_of_the_file_start_and_pause():
    content = CampaignFile().with_plan(plan(TEN, requested="planned", run=0))
    content = content.with_plan(plan(TEN[:1], requested="planned", run=0))
    assert content.revision == 2 and content.find("spring").devices == TEN[:1], "planned again"
    started = content.started("spring", "chief", "", 5, lambda *_: True)
    assert (started.find("spring").requested, started.find("spring").run) == ("running", 1)
    with pytest.raises(UserError, match="has been started"):
        started.with_plan(plan(TEN))
    with pytest.raises(UserError, match="runs; end it with"):
        started.without("spring")
    paused = started.paused("spring", "chief", "rain", 6)
    assert paused.find("spring").reason == "rain" and paused.paused("spring", "chief", "again", 7) is paused
    assert paused.without("spring").campaigns == []
    with pytest.raises(UserError, match="no campaign 'summer'; planned are: spring"):
        paused.find("summer")


def test_device_is_in_one_running_campaign_only():
    other = plan(TEN[3:5], requested="planned", run=0).model_copy(update={"name": "other"})
    content = CampaignFile(campaigns=[plan(TEN), other])
    with pytest.raises(UserError, match="vest-4 is also in campaign spring, which runs"):
        content.started("other", "chief", "", 5, lambda campaign, device: device == "vest-4")
    assert content.started("other", "chief", "", 5, lambda *_: False).find("other").requested == "running"
