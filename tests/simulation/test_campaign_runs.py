"""Campaigns over few devices; `make sim` runs them over 200."""

from patrolink.hub.updates.target import Progress

from tests.simulation import campaign


def test_campaigns_end_as_intended(capsys):
    assert campaign.main(1, 30) == 0, capsys.readouterr()


def test_false_success_is_detected(tmp_path):
    simulation = campaign.Simulation(tmp_path, 1, 20, False)
    simulation.advance(62_000)
    assert simulation.false_successes() == [] and simulation.bricks() == []
    targets = simulation.campaign.targets
    name = next(name for name, target in targets.items() if target.deferral == "battery")
    targets[name] = targets[name]._replace(progress=Progress.CONFIRMED)
    assert simulation.false_successes() == [name]
    simulation.close()
