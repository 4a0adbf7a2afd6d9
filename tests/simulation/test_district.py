"""A whole district on a virtual clock: see `patrolink emulate --district`; `make sim` runs more and longer ones."""

import dataclasses
import json
import types

import pytest
from patrolink.cli import main
from patrolink.emulator.footprint import footprint
from patrolink.emulator.scenarios.district.faults import HOUR_MS, NO_FAULTS, DistrictFaults
from patrolink.emulator.scenarios.district.memory_rule import MemoryRule
from patrolink.emulator.scenarios.district.prefix import shortest_prefix_min
from patrolink.emulator.scenarios.district.simulation import District
from patrolink.emulator.scheduler import Scheduler
from patrolink.emulator.virtual_loop import VirtualLoop

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


def test_frames_thinned_by_a_boot_that_loses_power_are_counted():
    """Full storage makes the boot thin an old frame for its hello, and the power is cut before the boot has ended."""
    faults = dataclasses.replace(NO_FAULTS, flash_full_h=0.01, power_cut_h=0.02, outage_h=0.02, sos_h=None)
    district = District(2, 0.2, 10, faults)
    report = district.run()
    assert report["frames_thinned"] > 0 and district.violations == []


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
    assert (
        "seed 1 breaks an invariant; the shortest run that was found to show one: patrolink emulate --district 4" in err
    )


@pytest.mark.parametrize(
    ("failing", "shortest", "tried"), [(1, 1, [30, 15, 7, 3, 1]), (13, 15, [30, 15, 7]), (60, 60, [30])]
)
def test_search_of_a_shorter_run_takes_no_longer_than_the_run(failing, shortest, tried):
    durations = []

    def fails(minutes: int) -> bool:
        durations.append(minutes)
        return minutes >= failing

    assert shortest_prefix_min(fails, 60, shown_min=61.5) == shortest
    assert durations == tried and sum(durations) <= 60


def test_violation_that_shows_during_the_events_needs_no_search():
    assert shortest_prefix_min(lambda minutes: pytest.fail("a run was started"), 480, shown_min=12.2) == 13


def test_log_of_one_device_follows_its_frames(tmp_path, capsys):
    arguments = ["emulate", "--district", "4", "--hours", "0.05", "--seed", "3"]
    assert main([*arguments, "--follow", "d0002", "--out", str(tmp_path), "--json"]) == 0
    lines = (tmp_path / "d0002.log").read_text().splitlines()
    stored = [line.split()[2] for line in lines if line.endswith(" stored")]
    accepted = [line.split()[2] for line in lines if line.endswith(" accepted by the hub")]
    assert len(stored) > 3 and len(set(stored) - set(accepted)) <= 1, "the last frame may be under way at the end"
    assert any("| device: ready, boot 1" in line for line in lines)
    assert main([*arguments, "--json"]) == 0
    hashes = [json.loads(line)["trace_sha256"] for line in capsys.readouterr().out.splitlines()]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("follow", ["d0004", "d1", "anna"])
def test_device_to_follow_must_exist(follow, tmp_path, capsys):
    assert main(["emulate", "--district", "4", "--hours", "1", "--follow", follow, "--out", str(tmp_path)]) == 2
    assert "d0000 to d0003" in capsys.readouterr().err


class Holder:
    """What a memory rule measures."""

    def __init__(self) -> None:
        self.data = bytearray(100_000)


@pytest.mark.parametrize(
    ("name", "growth"), [("d0001", 25_000 + (32 << 10)), ("the hub", 10_000 + (64 << 10) + 8 * (4 << 10))]
)
def test_memory_that_grows_after_the_warm_up_is_reported(name, growth):
    scheduler, agent, hub, violations = Scheduler(), Holder(), Holder(), []
    MemoryRule(scheduler, [("d0001", lambda: agent)], lambda: hub, 8, lambda *violation: violations.append(violation))
    scheduler.run_until(0.6 * HOUR_MS)
    held = agent if name == "d0001" else hub
    held.data = bytearray(100_000 + growth - 1000)
    scheduler.run_until(0.7 * HOUR_MS)
    assert violations == []
    held.data = bytearray(100_000 + growth + 1000)
    scheduler.run_until(0.8 * HOUR_MS)
    assert [rule for rule, _ in violations] == ["memory"] and violations[0][1].startswith(f"{name} holds ")


def test_memory_of_a_hub_is_what_it_and_its_coroutines_hold():
    """A dispatcher of the simulation waits for the hub, and holds what is left of a hub that was killed."""

    async def wait(future, held) -> None:
        await future

    wait_in_simulation = types.FunctionType(wait.__code__, {"__name__": "patrolink.emulator.scenarios.example"})
    loop = VirtualLoop(Scheduler(), print)
    hub, killed_hub = Holder(), bytes(1_000_000)
    hub.waiting = loop.create_future()

    async def serve() -> None:
        rows = bytes(50_000)
        await hub.waiting
        del rows

    tasks = [loop.create_task(serve()), loop.create_task(wait_in_simulation(hub.waiting, killed_hub))]
    loop._scheduler.run_until(1)
    assert not any(task.done() for task in tasks)
    assert 150_000 < footprint(hub, "patrolink.emulator.") < 200_000
    loop.drop_tasks()
