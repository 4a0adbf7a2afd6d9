"""A whole district on a virtual clock: see `patrolink emulate --district`; `make sim` runs more and longer ones."""

import json

import pytest
from patrolink.cli import main
from patrolink.emulator.scenarios.district.faults import HOUR_MS, NO_FAULTS, DistrictFaults
from patrolink.emulator.scenarios.district.memory_rule import MemoryRule
from patrolink.emulator.scenarios.district.prefix import shortest_prefix_min
from patrolink.emulator.scenarios.district.simulation import District
from patrolink.emulator.scheduler import Scheduler

SEEDS = range(1, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_invariants_hold_with_all_faults(seed):
    district = District(8, 0.1, seed)
    report = district.run()
    assert district.violations == [], f"patrolink emulate --district 8 --hours 0.1 --seed {seed}"
    assert report["frames_processed"] > 100 and report["voice_down"] > 100


def test_clips_arrive_while_keys_rotate_and_devices_are_copied():
    faults = DistrictFaults(copy_h=0.03, rotation_h=0.1, sos_h=0.05)
    district = District(4, 0.12, 1, faults)
    report = district.run()
    assert district.violations == []
    assert min(report[name] for name in ("key_epochs", "copies", "clips", "views", "frames_forged")) > 0, report


def test_a_seed_repeats_a_run_to_the_byte():
    hashes = [District(4, 0.05, seed).run()["trace_sha256"] for seed in (5, 5, 6)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_run_without_faults_repeats_and_loses_nothing():
    report = District(4, 0.1, 3, NO_FAULTS).run()
    assert report["violations"] == 0
    assert "frames_repeated" not in report and "hub_kills" not in report and "power_cuts" not in report


def test_report_ends_in_one_line_of_json(capsys):
    assert main(["emulate", "--district", "2", "--hours", "0.02", "--seed", "3", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["devices"], summary["hours"], summary["seed"], summary["violations"]) == (2, 0.02, 3, 0)
    assert len(summary["trace_sha256"]) == 64


@pytest.mark.parametrize("arguments", [["--district", "1"], ["--district", "1125"], ["--district", "5"]])
def test_invalid_sizes_are_refused(arguments, capsys):
    hours = [] if arguments == ["--district", "5"] else ["--hours", "1"]
    assert main(["emulate", *arguments, *hours]) == 2
    assert "--district must be" in capsys.readouterr().err


def test_violation_is_reported_with_the_shortest_run_that_shows_it(monkeypatch, capsys):
    """The hub forgets which frames it has processed: a replayed or repeated frame counts twice."""
    monkeypatch.setattr("patrolink_protocol.replay.ReplayWindow.accept", lambda self, counter: False)
    assert main(["emulate", "--district", "4", "--hours", "0.1", "--seed", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert {"duplicate", "replay"} & {record["rule"] for record in records if record["record"] == "violation"}
    assert "seed 1 breaks an invariant; the shortest run that shows one: patrolink emulate --district 4" in err


def test_prefix_is_the_shortest_one_that_fails():
    durations = []

    def fails(minutes: int) -> bool:
        durations.append(minutes)
        return minutes >= 13

    assert shortest_prefix_min(fails, 60) == 13 and len(durations) <= 7


def test_memory_that_grows_is_reported():
    scheduler, held, violations = Scheduler(), [bytes(1000)], []
    MemoryRule(scheduler, [("d0001", lambda: held)], lambda: None, lambda *violation: violations.append(violation))
    scheduler.run_until(2 * HOUR_MS)
    assert violations == []
    held.extend(bytes(1000 + n) for n in range(40))
    scheduler.run_until(2.6 * HOUR_MS)
    assert [rule for rule, _ in violations] == ["memory"] and "d0001" in violations[0][1]
