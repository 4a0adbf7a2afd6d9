"""Simulation of the complete agent on a virtual clock: no frame is lost or duplicated, and memory use is constant."""

import dataclasses

import pytest
from patrolink.emulator.network.carrier import PROFILES, Profile
from patrolink.emulator.scenarios.outcome import NO_FAULTS, Faults
from patrolink.emulator.scenarios.simulation import Simulation

from tests.simulation import fault_matrix, long_outage

HOUR_MS = 3_600_000.0
SLOW = Profile(200, 0, 0.0, 64, 64)


# Fault -> what the device must log
LOGGED = {"modem browns out every 90 s": ["modem: restarted unexpectedly"], "modem silent": ["no answer"]}


def message(sim: Simulation, lines: int = 40) -> str:
    return "\n".join(list(sim.log)[-lines:])


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
@pytest.mark.parametrize("name", fault_matrix.FAULTS)
def test_single_fault_loses_nothing(name, dialect):
    report, sim = fault_matrix.run(name, dialect)
    assert report.clean and report.rejected == 0, (report, message(sim))
    assert report.watchdog_resets == report.board_resets == 0
    lost_max = report.fixes_in_memory_at_power_cuts + 60 * report.refused_by_storage + 62 * report.power_cuts
    assert report.fixes >= 3600 * fault_matrix.HOURS - 1 - lost_max
    # The SOS is sent 5 min before the fault ends, and is answered within 30 s after it.
    assert report.events == 1 and report.event_max_s is not None and report.event_max_s < 300 + 30
    assert sim.log and report.delivered > 15
    log = message(sim, lines=2000)
    assert "8986" not in log and sim.key.secret.hex() not in log  # number of the SIM, key of the device
    for line in LOGGED.get(name, ()):
        assert line in log
    if name == "hub's answers lost":
        assert report.resent >= 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_hours_in_each_place_with_all_faults_lose_nothing(profile, dialect):
    seed = 20_261_124
    sim = Simulation(PROFILES[profile], seed, dialect, Faults(), name=profile)
    for i in range(2):
        sim.scheduler.at(HOUR_MS * (i + 0.4), sim.press_sos)
    report = sim.run(1.6)
    assert report.clean and report.rejected == 0, (f"seed {seed}", report, message(sim))
    assert report.watchdog_resets == 0
    # After the first half-hour, only a few lists of the agent may grow.
    assert report.agent_max_bytes - report.agent_min_bytes < 8192


def test_a_seed_repeats_a_run_exactly():
    faults = dataclasses.replace(
        Faults(), line_drop=0.0, line_damage=0.0
    )  # with TLS, line faults would hit random bytes (see Simulation)
    runs = [Simulation(PROFILES["village"], seed, "quectel", faults) for seed in (7, 7, 8)]
    reports = [sim.run(1).json() for sim in runs]
    assert reports[0] == reports[1] != reports[2]
    assert list(runs[0].log) == list(runs[1].log)


def test_lost_frame_is_counted():
    """Proves that the check detects a loss: storage discards every fifth write of the outbox."""
    sim = Simulation(PROFILES["city"], 1)
    watch = sim._watch

    def watch_with_losses(device):
        watch(device)
        store = device.outbox._files.append
        calls = []

        def append(name, data):
            calls.append(name)
            store(name, data if len(calls) % 5 else b"\0" * len(data))

        device.outbox._files.append = append

    sim._watch = watch_with_losses
    report = sim.run(0.5)
    assert report.lost > 0 and not report.clean


def test_duplicated_frame_is_counted():
    sim = Simulation(PROFILES["city"], 1)
    deliver = sim.broker.on_publish

    def deliver_twice(device, payload):
        deliver(device, payload)
        sim.hub.window.__init__(65536)  # clears the replay window
        deliver(device, payload)

    sim.broker.on_publish = deliver_twice
    assert sim.run(0.1).duplicated > 0


def backlog(dialect: str) -> tuple[Simulation, dict]:
    """Simulate an hour without coverage, and an SOS while the backlog drains at 64 kbit/s."""
    sim = Simulation(SLOW, 3, dialect)
    times: dict[str, float] = {}
    sim.scheduler.at(60_000, lambda: sim.network.outage(HOUR_MS))
    restored_ms = 60_000 + HOUR_MS

    def press():
        times["waiting_at_sos"] = len(sim.device.outbox)
        sim.press_sos()

    def watch():
        if sim.device.link.level == 5 and "session" not in times:
            times["session"] = sim.scheduler.now - restored_ms
            sim.scheduler.after(1500, press)
        if "session" in times and len(sim.device.outbox) <= 1 and "drained" not in times:
            times["drained"] = sim.scheduler.now - restored_ms
        sim.scheduler.after(50, watch)

    sim.scheduler.at(restored_ms - 1000, lambda: times.update(backlog=len(sim.device.outbox)))
    sim.scheduler.at(restored_ms, watch)
    sim.run(1 + 10 / 60)
    return sim, times


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_backlog_of_an_hour_drains_in_a_minute_with_sos_first(dialect):
    sim, times = backlog(dialect)
    assert times["backlog"] >= 60 and times["waiting_at_sos"] >= 20
    assert times["drained"] <= 60_000, times
    assert sim.report.event_max_s <= 2.0 and sim.report.clean


def test_newest_fixes_survive_an_outage_longer_than_the_outbox():
    """The short form of tests/simulation/long_outage.py: the outbox is filled several times."""
    figures = long_outage.run(8, seed=2, outbox_kb=24)
    assert long_outage.problems(figures) == [] and figures["fixes_kept"] < figures["fixes"] // 2, figures
    # Nothing is rewritten: twice the size of the frames would be that.
    assert figures["files_bytes"] < 5 * figures["fixes"], figures


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_publish_is_one_packet_and_one_round_trip(dialect, tls):
    sim = Simulation(Profile(400, 0, 0.0, 10_000, 10_000), 1, dialect, tls=tls, settings={"batch_fixes": 5})
    trips: list[tuple[int, float]] = []

    def spy():
        publish = sim.device.session.publish

        def measured(frame):
            sends, start = sim.modem.commands[name], sim.scheduler.now
            publish(frame)
            trips.append((sim.modem.commands[name] - sends, (sim.scheduler.now - start) / 400))

        sim.device.session.publish = measured

    name = "QISEND" if dialect == "quectel" else "CIPSEND"
    sim.scheduler.at(60_000, spy)
    sim.run(0.05)
    assert len(trips) >= 20 and {sends for sends, _ in trips} == {1}
    # In round trips of 400 ms; UART and command processing take less than half of one.
    assert max(round_trips for _, round_trips in trips) < 1.5, trips


def test_wrong_certificates_are_refused_with_reason_and_nothing_is_sent(tmp_path):
    from patrolink.emulator.network import certificates

    other = certificates.make(tmp_path, "broker.patrolink.example")
    for change in ({"tls": {"ca": str(other.ca)}}, {"host": "elsewhere.patrolink.example"}):
        sim = Simulation(PROFILES["city"], 1)
        sim.config["broker"] = {**sim.config["broker"], **change}
        dial = sim.broker.dial
        sim.listeners["TCP", "elsewhere.patrolink.example", 8883] = lambda c, dial=dial: dial("TCP", "", 0, c)
        sim.scheduler.at(170_000, lambda sim=sim: sim.hal.press(b"off"))
        report = sim.run(0.05)
        assert report.delivered == 0 and report.waiting == report.recorded + 1 > 4  # plus the hello
        refusals = [line for line in sim.log if "TLS with" in line and " failed: " in line]
        assert refusals and "CERTIFICATE_VERIFY_FAILED" in refusals[0], message(sim)
        # No modem reset and no radio restart for a fault that they cannot fix.
        assert report.modem_boots == 1 and not any("radio" in line for line in sim.log)


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_datagrams_during_mqtt_traffic_are_answered(dialect):
    """UDP media on a second socket during MQTT traffic."""
    sim = Simulation(Profile(60, 10, 0.0, 1000, 1000), 1, dialect)
    received: list[bytes] = []

    class Echo:
        def __init__(self, connection):
            self.connection = connection

        def feed(self, data):
            self.connection.down(b"echo " + data)

        def close(self):
            pass

    sim.listeners["UDP", "media.patrolink.example", 5004] = Echo

    def exchange():
        device = sim.device
        udp = device.modem.udp("media.patrolink.example", 5004)
        buf = memoryview(bytearray(1500))

        def receive():
            n = udp.recv_into(buf)
            if n:
                received.append(bytes(buf[:n]))
            return bool(n)

        for i in range(10):
            assert device.modem.wait_until(udp.ready, 2000)
            udp.send(b"OK\r\n%d" % i)
            device.modem.wait_until(receive, 2000)
        udp.close()

    def begin():
        step = sim.device.link.step

        def once():
            sim.device.link.step = step
            exchange()
            return step()

        sim.device.link.step = once

    sim.scheduler.at(65_000, begin)
    report = sim.run(0.1)
    assert received == [b"echo OK\r\n%d" % i for i in range(10)] and report.clean


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
def test_unresponsive_modem_is_reset_by_its_reset_pin(dialect):
    sim = Simulation(fault_matrix.PLAIN, 1, dialect)
    levels: list[int] = []

    def set_reset(level: int) -> None:
        levels.append(level)
        if level:
            sim.modem.condition = "normal"
        sim.modem.set_reset(level)

    sim.hal.pins["reset"] = set_reset
    sim.scheduler.at(60_000, lambda: setattr(sim.modem, "condition", "silent"))
    report = sim.run(0.25)
    assert report.clean and levels[-2:] == [1, 0] and sim.modem.condition == "normal", message(sim)
    assert report.modem_boots == 1 + levels.count(1) == 2 and report.board_resets == 0
    assert report.fixes == 899


def test_corrupt_nmea_sentences_are_counted_and_discarded():
    sim = Simulation(PROFILES["city"], 1)
    devices, sent, watch = [], [], sim._watch
    deliver = sim.from_gps

    def watch_device(device):
        devices.append(device)
        watch(device)

    def deliver_damaged(block: bytes) -> None:
        i = len(sent)
        sent.append(block)
        damaged = bytearray(block)
        if i % 3 == 1:
            damaged[i % len(damaged)] ^= 1 << (i % 8)
        if i % 7 == 2:
            damaged = damaged[: len(damaged) // 2] + b"\xb5\x62\x01\x07" + damaged[: len(damaged) // 3]
        deliver(bytes(damaged))

    sim._watch, sim.from_gps = watch_device, deliver_damaged
    report = sim.run(300 / 3600)
    summary = devices[0].summary()
    assert summary["bad_checksum"] > 50 and summary["fixes"] >= 290, summary
    assert report.clean and report.fixes == summary["fixes"]


def test_dead_modem_resets_the_board_at_most_hourly():
    sim = Simulation(PROFILES["city"], 1)
    sim.modem.condition = "silent"
    sim.scheduler.at(3.5 * HOUR_MS, lambda: setattr(sim.modem, "condition", "normal"))
    report = sim.run(4)
    assert 2 <= report.board_resets <= 3 and report.clean, report
    assert report.modem_boots > 7 and report.fixes >= 4 * 3600 - 60 * report.board_resets - 2


def test_link_reports_its_level():
    sim = Simulation(PROFILES["city"], 1)
    rows: list[dict] = []
    record = sim._record

    def spy(frame):
        from patrolink_protocol import decode

        kind, _, body, _ = sim.hub.channel.open_frame(frame)
        message = decode.decode(kind, body)
        if message["message"] == "device_status":
            rows.append(message)
        record(frame)

    sim._record = spy
    sim.scheduler.at(120_000, lambda: setattr(sim.network, "black_hole", True))
    sim.scheduler.at(1_200_000, lambda: setattr(sim.network, "black_hole", False))
    sim.run(0.5)
    recovery_steps = {row["rung"] for row in rows}
    assert {row["link"] for row in rows} >= {0, 5} and recovery_steps >= {0, 3, 4, 5}, recovery_steps
    assert rows[-1]["link"] == 5 and rows[-1]["rung"] == 0 and -90 < rows[-1]["signal_dbm"] < -70


def test_run_without_faults_counts_no_fault():
    report = Simulation(PROFILES["city"], 1, faults=NO_FAULTS).run(1)
    assert report.faults == {} and report.reconnects == report.resent == 0 and report.fixes == 3599


def test_watchdog_resets_a_hung_agent_without_loss():
    sim = Simulation(PROFILES["city"], 1)

    def hang():
        while True:
            sim.hal.wait(1000)

    sim.scheduler.at(300_500, lambda: setattr(sim.device.link, "step", hang))
    report = sim.run(0.25)
    assert report.watchdog_resets == 1 and report.clean, message(sim)
