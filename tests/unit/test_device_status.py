"""device_status: when it is sent."""

from agent.tracking.device_status import DeviceStatus


class Part:
    """Every part that the message reports on, and the reporter."""

    errors = level = recovery_step = connects = dropped = faults = unsealed = sentences = bad_checksum = overlong = 0
    frames = rows = gps_mode = gps_sats = 0
    signal_dbm = None

    def __init__(self):
        self.sent = 0

    def __len__(self):
        return 0

    def send(self, kind, values):
        self.sent += 1
        self.frames += 1


def make_status():
    part = Part()
    return part, DeviceStatus(part, part, part, part, part, part, [], None, 60, False, 0)


def test_a_status_is_sent_periodically_and_when_the_gps_mode_changes():
    part, status = make_status()
    for now_ms, mode, sent in ((0, 0, 1), (10, 0, 1), (59990, 0, 1), (60000, 0, 2), (60010, 3, 2), (60020, 3, 3)):
        part.gps_mode = mode
        status.poll(now_ms)
        assert part.sent == sent, now_ms


def test_a_status_waits_for_a_round_without_another_frame():
    part, status = make_status()
    for now_ms in range(0, 50, 10):
        part.frames += 1
        status.poll(now_ms)
    assert part.sent == 0
    status.poll(50)
    assert part.sent == 1
