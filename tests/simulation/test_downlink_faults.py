"""The whole agent against a broker that floods, retains, acknowledges late, or knows a second client with its id."""

import pytest
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scenarios.simulation import Simulation

MINUTE = 60_000.0
PLAIN = Profile(80, 20, 0.0, 1000, 4000)
SLOW = Profile(200, 0, 0.0, 64, 64)
BEGIN, END = 5 * MINUTE, 15 * MINUTE


def simulate(profile: Profile, seed: int = 1) -> Simulation:
    return Simulation(profile, seed, tls=False)


def finish(sim: Simulation):
    """Run for 20 minutes with an SOS during the fault; return the report. Nothing may be lost."""
    sim.scheduler.at(10 * MINUTE + 500, sim.press_sos)
    report = sim.run(1 / 3)
    text = "\n".join(list(sim.log)[-60:])
    assert report.clean and report.rejected == 0 and report.watchdog_resets == 0, (report, text)
    assert report.events == 1 and report.fixes >= 1199, (report, text)
    return report


def lines(sim: Simulation, text: str) -> list[str]:
    return [line for line in sim.log if text in line]


@pytest.mark.parametrize("size", [40, 2000, 60_000])
def test_a_retained_message_is_ignored_and_the_session_stays(size):
    sim = simulate(PLAIN)
    sim.broker.retained["sim-1"] = bytes(size)
    report = finish(sim)
    assert report.reconnects == 0 and report.event_max_s < 5
    assert len(lines(sim, "downlink message ignored")) == 1


def test_a_large_message_is_skipped_once_and_the_session_stays():
    sim = simulate(SLOW)
    sim.scheduler.at(BEGIN, lambda: sim.broker.send("sim-1", bytes(20_000)))
    report = finish(sim)
    assert report.reconnects == 0
    assert len(lines(sim, "downlink message ignored: 20")) == 1


def test_a_message_too_large_for_the_link_does_not_stop_the_uplink():
    sim = simulate(SLOW)
    sim.broker.retained["sim-1"] = bytes(200_000)  # takes 25 s
    sim.scheduler.at(END, sim.broker.retained.clear)
    report = finish(sim)
    assert report.reconnects <= 8 and report.event_max_s < 60, report
    assert lines(sim, "too much downlink")


def test_a_flood_does_not_stop_the_uplink():
    sim = simulate(SLOW)
    ages: list[float] = []

    def flood():
        for _ in range(10):
            sim.broker.send("sim-1", bytes(100))  # forged: 90 kbit/s on a link of 64
        if sim.scheduler.now < END:
            sim.scheduler.after(100, flood)

    def watch(message):
        if message["message"] == "position_batch":
            ages.append(sim.unix_ms() - message["fixes"][-1]["time_ms"])

    sim.on_message = watch
    sim.scheduler.at(BEGIN, flood)
    report = finish(sim)
    # The uplink stands still for the time of one acknowledgement, not for the time of the flood.
    assert max(ages) < 60_000 and report.event_max_s < 60, (ages, report.event_max_s)
    assert 0 < report.reconnects <= 12


@pytest.mark.parametrize("delay_s", [15, 35])
def test_late_acknowledgements_do_not_end_every_session(delay_s):
    sim = simulate(PLAIN)
    sim.scheduler.at(BEGIN, lambda: setattr(sim.broker, "puback_ms", delay_s * 1000))
    sim.scheduler.at(END, lambda: setattr(sim.broker, "puback_ms", 0))
    waiting: list[int] = []
    sim.scheduler.at(END - 1000, lambda: waiting.append(len(sim.device.outbox)))
    report = finish(sim)
    # The first waits are too short, and an SOS ends one. At 15 s four frames a minute pass, twice as many as are sent.
    assert report.reconnects <= (4 if delay_s == 15 else 8), report
    assert waiting[0] <= (4 if delay_s == 15 else 12), waiting


def test_an_sos_does_not_wait_for_a_late_acknowledgement():
    sim = simulate(PLAIN)
    sim.scheduler.at(BEGIN, lambda: setattr(sim.broker, "puback_ms", 50_000))
    sim.scheduler.at(END, lambda: setattr(sim.broker, "puback_ms", 0))
    assert finish(sim).event_max_s < 20


def test_a_second_client_with_the_same_id_is_named_and_retried_with_growing_intervals():
    sim = simulate(PLAIN)
    sessions: list[float] = []

    def take_over():
        session = sim.broker.sessions.get("sim-1")
        if session is not None and session not in ended:
            ended.add(session)
            sessions.append(sim.scheduler.now)
            sim.scheduler.after(2000, session.end)
        if sim.scheduler.now < END:
            sim.scheduler.after(200, take_over)

    ended: set[object] = set()
    sim.scheduler.at(BEGIN, take_over)
    finish(sim)
    assert lines(sim, "does another device use this id?")
    assert 4 <= len(sessions) <= 14, sessions  # 10 minutes; one every 3 s without the rule


def test_a_refused_subscription_is_named():
    sim = simulate(PLAIN)
    sim.broker.refuse_subscriptions = True
    sim.scheduler.at(BEGIN, lambda: setattr(sim.broker, "refuse_subscriptions", False))
    report = finish(sim)
    assert lines(sim, "subscription to p/sim-1/d refused; allow it in the broker's access list")
    assert report.modem_boots == 1
