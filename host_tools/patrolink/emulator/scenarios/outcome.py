"""Faults of a simulation and its report."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Faults:
    """Mean hours between faults, in addition to those of the network (None: never); the last four are probabilities."""

    power_cut_h: float | None = 8
    brown_out_h: float | None = 4
    sim_pulled_h: float | None = 12
    pdp_drop_h: float | None = 3
    broker_restart_h: float | None = 6
    broker_mute_h: float | None = 6
    black_hole_h: float | None = 3
    disk_full_h: float | None = 24
    clock_jump_h: float | None = 12
    answers_lost: float = 0.2
    line_drop: float = 1e-6
    line_damage: float = 1e-6
    late_urc: float = 0.02


_FRAME_COUNTS = (
    "recorded", "delivered", "duplicated", "thinned", "lost", "resent", "refused_by_storage", "rejected", "waiting",
)  # fmt: skip
NO_FAULTS = Faults(*(None,) * 9, 0, 0, 0, 0)


@dataclass
class Report:
    """Results of a run. Fixes and frames are counted separately: a frame holds up to 60 fixes."""

    network: str = ""
    seed: int = 0
    hours: float = 0.0
    modem: str = ""
    recorded: int = 0
    delivered: int = 0
    duplicated: int = 0
    thinned: int = 0
    lost: int = 0
    fixes: int = 0
    fixes_in_memory_at_power_cuts: int = 0
    resent: int = 0
    refused_by_storage: int = 0
    rejected: int = 0
    waiting: int = 0
    events: int = 0
    event_median_s: float | None = None
    event_max_s: float | None = None
    first_fix_delivered_s: float | None = None
    reconnects: int = 0
    outages: int = 0
    power_cuts: int = 0
    board_resets: int = 0
    watchdog_resets: int = 0
    modem_boots: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    flash_bytes_per_fix: float | None = None
    agent_min_bytes: int = 0
    agent_max_bytes: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Return whether nothing was lost, duplicated or left undelivered."""
        return not (self.lost or self.duplicated or self.waiting)

    def json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data. Counts of frames get names that say so."""
        return {f"frames_{name}" if name in _FRAME_COUNTS else name: value for name, value in asdict(self).items()}
