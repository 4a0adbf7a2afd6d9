"""Simulates each single fault between device and hub on a virtual clock, and prints a table of outcomes.

usage: python tests/simulation/fault_matrix.py

Exit code 1 if a fault loses data. Each fault is a function that schedules it for minutes 3 to 13 of a patrol of 18
minutes. `TcpProxy` applies the TCP faults between a broker and any device, a real one included.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from patrolink.emulator.boards.virtual_hal import PowerCut
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scenarios.outcome import NO_FAULTS, Report
from patrolink.emulator.scenarios.simulation import Simulation

MINUTE = 60_000.0
PLAIN = Profile(80, 20, 0.0, 1000, 4000)
BEGIN, END = 3 * MINUTE, 13 * MINUTE
SOS_MS = 8 * MINUTE + 500
HOURS = 0.3
Plan = Callable[[Simulation], None]


def _span(sim: Simulation, begin: Callable[[], None], end: Callable[[], None]) -> None:
    sim.scheduler.at(BEGIN, begin)
    sim.scheduler.at(END, end)


def _switch(owner: Callable[[Simulation], object], name: str, on: object, off: object) -> Plan:
    def plan(sim: Simulation) -> None:
        _span(sim, lambda: setattr(owner(sim), name, on), lambda: setattr(owner(sim), name, off))

    return plan


def _every(seconds: float, act: Callable[[Simulation], None]) -> Plan:
    def plan(sim: Simulation) -> None:
        at = BEGIN
        while at < END:
            sim.scheduler.at(at, partial(act, sim))
            at += seconds * 1000

    return plan


def _profile(**changes: float) -> Plan:
    def plan(sim: Simulation) -> None:
        network = sim.network
        _span(
            sim,
            lambda: setattr(network, "profile", replace(PLAIN, **changes)),
            lambda: setattr(network, "profile", PLAIN),
        )

    return plan


def _cut(sim: Simulation) -> None:
    for connection in list(sim.network.connections):
        connection.remote.close()
        connection.remote_closed()


def _power_at_byte(n: int) -> Plan:
    """Cut the power after n more bytes of flash writes, five times."""
    return _every(120, lambda sim: setattr(sim.hal.flash, "cut_after", n))


def _power(sim: Simulation) -> None:
    sim.hal.dies = PowerCut()


def _fill(sim: Simulation) -> None:
    flash = sim.hal.flash
    _span(
        sim,
        lambda: setattr(flash, "full_at", sum(map(len, flash.files.values())) + 20),
        lambda: setattr(flash, "full_at", None),
    )


def _fill_and_restart(sim: Simulation) -> None:
    _fill(sim)
    sim.scheduler.at(BEGIN + 2 * MINUTE, partial(_power, sim))
    sim.scheduler.at(BEGIN + 4 * MINUTE, partial(_power, sim))


def _jump(sim: Simulation) -> None:
    sim.hal.clock.jump_ms += 3_600_000


def _duplicate_and_reorder(sim: Simulation) -> None:
    """Deliver every frame twice and out of order, the worst case of at-least-once delivery."""
    deliver, delayed = sim.broker.on_publish, []

    def reorder(device: str, payload: bytes) -> None:
        delayed.append(payload)
        if len(delayed) == 3:
            for payload in (delayed[2], delayed[0], delayed[1], delayed[0], delayed[2]):
                deliver(device, payload)
            delayed.clear()

    def stop() -> None:
        sim.broker.on_publish = deliver
        for payload in delayed:
            deliver("sim-1", payload)

    _span(sim, lambda: setattr(sim.broker, "on_publish", reorder), stop)


def _damage_line(**odds: float) -> Plan:
    def plan(sim: Simulation) -> None:
        for name, value in odds.items():
            _switch(lambda s: s.modem.line, name, value, 0.0)(sim)

    return plan


def _broker_down(sim: Simulation) -> None:
    _span(sim, sim.broker.stop, lambda: setattr(sim.broker, "up", True))


def _sim_out(sim: Simulation) -> None:
    _span(sim, lambda: sim.modem.set_sim(False), lambda: sim.modem.set_sim(True))


def _foreign(sim: Simulation) -> None:
    _switch(lambda s: s.modem, "condition", "foreign", "normal")(sim)
    sim.scheduler.at(BEGIN, sim.modem.start)


def _refuse(sim: Simulation) -> None:
    _switch(lambda s: s.broker, "refuse", 4, 0)(sim)
    sim.scheduler.at(BEGIN, partial(_cut, sim))


FAULTS: dict[str, Plan] = {
    "nothing": lambda sim: None,
    "cut: connections closed every 30 s": _every(30, _cut),
    "black hole: registered, no data passes": _switch(lambda s: s.network, "black_hole", True, False),
    "throttle: 4 kbit/s up": _profile(up_kbps=4, down_kbps=8),
    "high latency: round trip 2 s, jitter 2 s": _profile(rtt_ms=2000, jitter_ms=2000),
    "loss: every third segment": _profile(loss=0.33),
    "no coverage": lambda sim: sim.scheduler.at(BEGIN, partial(sim.network.outage, 10 * MINUTE)),
    "handovers: gap of 1 s every 5 s": _every(5, lambda sim: sim.network.gap(1000)),
    "data context lost every 60 s": _every(60, lambda sim: sim.network.drop_pdp()),
    "SIM pulled": _sim_out,
    "modem browns out every 90 s": _every(90, lambda sim: sim.modem.start()),
    "modem silent": _switch(lambda s: s.modem, "condition", "silent", "normal"),
    "modem sends garbage": _switch(lambda s: s.modem, "condition", "garbage", "normal"),
    "modem always answers ERROR": _switch(lambda s: s.modem, "condition", "error", "normal"),
    "modem of an unsupported manufacturer": _foreign,
    "corrupt: a byte in 2000 on the modem's line": _damage_line(damage=0.0005),
    "bytes dropped: one in 2000": _damage_line(drop=0.0005),
    "late and reordered URCs": _damage_line(late_urc=0.5),
    "duplicate and reorder: frames at the hub": _duplicate_and_reorder,
    "broker down": _broker_down,
    "broker never acknowledges": _switch(lambda s: s.broker, "mute", True, False),
    "broker refuses the password": _refuse,
    "hub's answers lost": _switch(lambda s: s, "answers_lost", 1.0, 0.0),
    "power cut, five times": _every(120, _power),
    "power cut at byte 1 of a write, five times": _power_at_byte(1),
    "power cut at byte 57, five times": _power_at_byte(57),
    "power cut at byte 200, five times": _power_at_byte(200),
    "disk full": _fill,
    "disk full, two restarts": _fill_and_restart,
    "clock jumps by an hour": _every(300, _jump),
}


def run(name: str, dialect: str = "quectel", seed: int = 1) -> tuple[Report, Simulation]:
    """Simulate a patrol with one fault and an SOS during it."""
    sim = Simulation(PLAIN, seed, dialect, NO_FAULTS, name=name)
    FAULTS[name](sim)
    sim.scheduler.at(SOS_MS, sim.press_sos)
    return sim.run(HOURS), sim


def main() -> int:
    wrong = 0
    print(f"{'fault':<46} {'modem':<8} recorded delivered lost doubled thinned refused resent sessions  SOS after")
    for name in FAULTS:
        for dialect in ("quectel", "simcom"):
            r, _ = run(name, dialect)
            wrong += not r.clean
            print(
                f"{name:<46} {dialect:<8} {r.recorded:8} {r.delivered:9} {r.lost:4} {r.duplicated:7} {r.thinned:7} "
                f"{r.refused_by_storage:7} {r.resent:6} {r.reconnects + 1:8} {r.event_max_s:8.2f} s",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
