"""A device announces an uploaded clip until the hub has answered, on a virtual clock."""

import pytest
from patrolink.emulator.boards.virtual_camera import Film
from patrolink.emulator.network.carrier import PROFILES
from patrolink.evidence import evidence_key

from tests.support.agent_site import AgentSite, Kit
from tests.support.drawn_pictures import drawn_pictures
from tests.support.simulated_site import UPLOAD_PORT

NAME, MINUTE_S = "vest-1", 60


@pytest.fixture
def site(tmp_path):
    """A site with a device that records."""
    public = evidence_key.create(tmp_path / "evidence.pem").public
    config = {"clips": {"evidence_key": public, "pre_s": 2, "post_s": 2, "segment_s": 2}}
    kit = Kit(PROFILES["city"], config, "", Film(drawn_pictures(False, 12), (320, 240), 5))
    hub = f'uploads = "127.0.0.1:{UPLOAD_PORT}"'
    site = AgentSite(tmp_path, {NAME: kit}, 1, "", 'evidence_key = "evidence.pem"', hub)
    yield site
    site.close()


def announcements(site: AgentSite) -> list[str]:
    """Return the chain of each announced clip, in order."""
    return [row["chain"] for row in site.rows if row["record"] == "clip_manifest"]


def test_a_device_repeats_an_announcement_until_it_has_an_answer(site, tmp_path):
    agent = site.agents[NAME]
    agent.see_sky()
    site.run_until(lambda: "clips: recording" in agent.text(), agent.text)
    site.run_for(5)
    agent.press("sos")
    site.broker.sessions[NAME].subscribed = False  # answers are lost
    clip = site.wait_for_row(lambda row: row["record"] == "clip_manifest")["clip_id"]
    verdict = tmp_path / "clips" / NAME / f"{clip:06d}" / "hub.json"
    site.run_until(lambda: verdict.exists() and '"valid"' in verdict.read_text(), agent.text)
    site.run_for(5 * MINUTE_S)
    chains = announcements(site)
    assert len(chains) == 3 and len(set(chains)) == 1
    site.broker.sessions[NAME].subscribed = True
    site.run_until(lambda: len(announcements(site)) == 4, agent.text, 3 * MINUTE_S)
    site.run_for(5 * MINUTE_S)
    agent.power_off()
    agent.power_on()
    site.run_for(5 * MINUTE_S)
    assert len(announcements(site)) == 4, "it has been answered"
