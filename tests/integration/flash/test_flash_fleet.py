"""Many devices at once: bounds, dead boards, renumbered ports, two operators, cancellation."""

import signal
import tempfile
import threading

import pytest
from patrolink.core.board_lock import Lock
from patrolink.core.errors import DeadlineError, DeviceError, UserError
from patrolink.core.signals import StopSignal, raise_on_stop
from patrolink.flash import fleet as fleet_module
from patrolink.flash import ports
from patrolink.flash.device_flow import State
from patrolink.flash.fleet import Fleet, Options, locked
from patrolink.flash.method import Method
from patrolink.flash.records import CancelledError, Identity, Plan, Port, RefusedError

from tests.support.polling import TIMEOUT_S, wait_until

OPTIONS = Options(jobs=16, retries=0)


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    """Lock files are common to all processes of a machine, and other workers run tests of this module."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Bench:
    """Ports with a device behind each USB socket. `hooks` are called in a step of the device in a socket."""

    def __init__(self, sockets: int) -> None:
        self.paths = {f"1-{i}": f"/dev/test{i}" for i in range(sockets)}
        self.ids = {socket: f"id-{socket}" for socket in self.paths}
        self.hooks: dict[tuple[str, str], object] = {}
        self.written: list[tuple[str, str]] = []
        self.working = self.most_working = 0
        self.log: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def listing(self) -> list[Port]:
        return [Port(path, socket) for socket, path in self.paths.items()]

    def socket_of(self, path: str) -> str:
        return next((socket for socket, name in self.paths.items() if name == path), "")

    def make(self, path: str, cancel: threading.Event) -> Method:
        return FakeMethod(path, cancel, self)

    def fleet(self, options: Options = OPTIONS, **more) -> Fleet:
        return Fleet(self.listing(), self.make, self.listing, options, self.changed, **more)

    def changed(self, device) -> None:
        self.log.append((device.port.location, device.state.value))


class FakeMethod(Method):
    def __init__(self, port: str, cancel: threading.Event, bench: Bench) -> None:
        super().__init__(port, cancel)
        self._bench, self.cancel = bench, cancel
        self._socket = bench.socket_of(port)
        with bench.lock:
            bench.working += 1
            bench.most_working = max(bench.most_working, bench.working)

    def _step(self, name: str) -> None:
        hook = self._bench.hooks.get((self._socket, name))
        if hook:
            hook(self)

    def identify(self) -> Identity:
        self._step("identify")
        return Identity(unique_id=self._bench.ids[self._bench.socket_of(self.port)])

    def plan(self, identity: Identity) -> Plan:
        self._step("plan")
        return Plan("agent", 1000)

    def write(self, plan, report) -> None:
        self.report = report
        self._step("write")
        report(1000, 1000)
        self._bench.written.append((self.port, self._bench.ids[self._bench.socket_of(self.port)]))

    def verify(self, plan) -> None:
        self._step("verify")

    def release(self) -> None:
        self._step("release")

    def close(self) -> None:
        with self._bench.lock:
            self._bench.working -= 1


def fail(error: Exception):
    def hook(method):
        raise error

    return hook


def states(fleet: Fleet) -> dict[str, State]:
    return {device.port.location: device.state for device in fleet.devices}


def test_failures_do_not_touch_the_others():
    bench = Bench(16)
    bench.hooks["1-3", "write"] = fail(DeviceError("no answer"))
    bench.hooks["1-7", "plan"] = fail(RefusedError("wrong board"))
    bench.hooks["1-9", "verify"] = fail(ValueError("bug"))
    fleet = bench.fleet()
    fleet.run()
    bad = {"1-3": State.FAILED, "1-7": State.REFUSED, "1-9": State.FAILED}
    assert states(fleet) == {socket: bad.get(socket, State.FLASHED) for socket in bench.paths}
    assert "this is a bug" in fleet.devices[9].reason and "no answer" in fleet.devices[3].reason
    assert "1-7" not in {bench.socket_of(path) for path, _ in bench.written}


def test_number_of_devices_at_a_time_is_bounded():
    bench = Bench(9)
    barrier = threading.Barrier(3)
    for socket in bench.paths:
        bench.hooks[socket, "identify"] = lambda method: barrier.wait(TIMEOUT_S) if method.cancel else None
    fleet = bench.fleet(Options(jobs=3, retries=0))
    fleet.run()
    assert set(states(fleet).values()) == {State.FLASHED} and bench.most_working == 3


def test_a_device_that_never_answers_is_abandoned():
    bench, now, released = Bench(2), [0.0], threading.Event()

    def hang(method) -> None:
        wait_until(lambda: bench.log.count(("1-0", "flashed")) and ("1-1", "writing") in bench.log)
        now[0] = 100.0
        released.wait(TIMEOUT_S)

    bench.hooks["1-1", "write"] = hang
    fleet = bench.fleet(OPTIONS._replace(step_limit_s=50), clock=lambda: now[0])
    fleet.run()
    assert states(fleet)["1-1"] is State.FAILED and "writing did not end within 50 s" in fleet.devices[1].reason
    released.set()
    wait_until(lambda: bench.working == 0)
    assert fleet.devices[1].state is State.FAILED  # its late news counts no more


def test_progress_renews_the_time_of_a_step():
    bench, now, looks = Bench(1), [0.0], [0]

    def clock() -> float:
        looks[0] += 1
        return now[0]

    def write_slowly(method) -> None:
        for done in range(4):
            now[0] += 40
            reported = looks[0]
            wait_until(lambda reported=reported: looks[0] > reported + 2)
            method.report(done, 1000)

    bench.hooks["1-0", "write"] = write_slowly
    fleet = bench.fleet(OPTIONS._replace(step_limit_s=50), clock=clock)
    fleet.run()
    assert states(fleet) == {"1-0": State.FLASHED}


def test_an_abandoned_device_is_cancelled_and_the_others_are_not():
    bench, now, cancelled = Bench(2), [0.0], []

    def hang(method) -> None:
        wait_until(lambda: ("1-0", "writing") in bench.log)
        now[0] = 100.0
        cancelled.append(method.cancel.wait(TIMEOUT_S))
        raise CancelledError

    bench.hooks["1-0", "write"] = hang
    bench.hooks["1-1", "write"] = lambda method: cancelled.append(method.cancel.is_set())
    fleet = bench.fleet(Options(jobs=1, retries=0, step_limit_s=50), clock=lambda: now[0])
    fleet.run()
    assert states(fleet) == {"1-0": State.FAILED, "1-1": State.FLASHED} and sorted(cancelled) == [False, True]
    assert bench.working == 0  # `run` waits for the thread of a cancelled device


def test_an_exception_of_the_observer_is_raised_when_all_devices_have_ended():
    bench = Bench(3)

    def report(device) -> None:
        bench.changed(device)
        if device.state is State.FLASHED:
            raise UserError(f"no space for {device.port.location}")

    for socket in ("1-1", "1-2"):
        bench.hooks[socket, "write"] = lambda method: wait_until(lambda: ("1-0", "flashed") in bench.log)
    fleet = Fleet(bench.listing(), bench.make, bench.listing, Options(jobs=2, retries=0), report)
    with pytest.raises(UserError, match="no space for 1-0"):
        fleet.run()
    assert set(states(fleet).values()) == {State.FLASHED} and bench.working == 0


def test_a_stop_signal_loses_no_thread_that_starts(monkeypatch):
    class Worker(fleet_module._Worker):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fleet_module, "_Worker", Worker)
    fleet = Bench(1).fleet()
    with raise_on_stop(), pytest.raises(StopSignal):
        fleet.run()
    assert states(fleet)["1-0"] in (State.CANCELLED, State.FLASHED)


def test_a_stop_signal_loses_no_state_of_a_device():
    fleet = Bench(1).fleet()
    news = fleet._news

    class News:
        def get(self, timeout: float):
            entry = news.get(timeout=timeout)
            if entry[1].state is State.FLASHED:
                signal.raise_signal(signal.SIGINT)
            return entry

        put = news.put

    fleet._news = News()
    with raise_on_stop(), pytest.raises(StopSignal):
        fleet.run()
    assert states(fleet) == {"1-0": State.FLASHED}


def test_a_port_that_was_renumbered_is_followed_by_its_socket():
    bench = Bench(2)

    def swap(method) -> None:
        bench.hooks.clear()
        bench.paths["1-0"], bench.paths["1-1"] = bench.paths["1-1"], bench.paths["1-0"]
        raise DeviceError("cable")

    bench.hooks["1-0", "write"] = swap
    fleet = bench.fleet(Options(jobs=1, retries=1))
    fleet.run()
    assert set(states(fleet).values()) == {State.FLASHED}
    assert bench.written == [("/dev/test1", "id-1-0"), ("/dev/test0", "id-1-1")]


def test_a_port_renumbered_after_the_plan_is_not_written():
    bench = Bench(2)

    def swap(method) -> None:
        bench.paths["1-0"], bench.paths["1-1"] = bench.paths["1-1"], bench.paths["1-0"]

    bench.hooks["1-0", "plan"] = swap
    fleet = bench.fleet(Options(jobs=1, retries=0))
    fleet.run()
    assert fleet.devices[0].state is State.FAILED and "has given this port to another device" in fleet.devices[0].reason
    assert bench.written == [("/dev/test0", "id-1-1")]


def test_another_device_in_the_socket_is_not_written():
    bench = Bench(1)
    bench.hooks["1-0", "plan"] = lambda method: bench.ids.update({"1-0": "stranger"})
    fleet = bench.fleet(OPTIONS._replace(retries=5))
    fleet.run()
    assert states(fleet) == {"1-0": State.REFUSED} and bench.written == []


def test_two_operators_on_one_port():
    bench = Bench(2)
    lock = Lock("/dev/test0", wait_s=0)
    fleet = bench.fleet()
    fleet.run()
    lock.close()
    assert states(fleet) == {"1-0": State.FAILED, "1-1": State.FLASHED}
    assert "is in use by process" in fleet.devices[0].reason


def test_camera_is_locked_for_operators_in_all_folders(tmp_path, monkeypatch):
    with locked("root@camera-7"):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DeadlineError, match="board root@camera-7 is in use by process"), locked("root@camera-7"):
            pass


def test_a_stop_signal_ends_devices_between_and_within_steps():
    bench = Bench(4)

    def stop(device) -> None:
        first = not any(state == "writing" for _, state in bench.log)
        bench.changed(device)
        if first and device.state is State.WRITING:  # like `core.signals`: only the first signal counts
            raise KeyboardInterrupt

    def wait(method) -> None:
        assert method.cancel.wait(TIMEOUT_S)
        raise CancelledError

    bench.hooks = {(socket, "write"): wait for socket in bench.paths}
    fleet = Fleet(bench.listing(), bench.make, bench.listing, Options(jobs=2, retries=3), stop)
    with pytest.raises(KeyboardInterrupt):
        fleet.run()
    assert set(states(fleet).values()) == {State.CANCELLED} and bench.written == []


@pytest.mark.parametrize(
    ("port", "listing", "path"),
    [
        (Port("/dev/a"), [], "/dev/a"),
        (Port("/dev/a", "1-1"), [Port("/dev/b", "1-1"), Port("/dev/a", "1-2")], "/dev/b"),
        (Port("/dev/a", "", "s1"), [Port("/dev/a", "", "s2"), Port("/dev/c", "", "s1")], "/dev/c"),
        # Boards in a boot loader may have one serial number: the socket decides.
        (Port("/dev/a", "1-1", "s"), [Port("/dev/a", "1-2", "s"), Port("/dev/b", "1-1", "s")], "/dev/b"),
    ],
)
def test_path_of_a_device_now(port, listing, path):
    assert ports.current_path(port, listing) == path


@pytest.mark.parametrize("listing", [[], [Port("/dev/a", "1-2", "s1")], [Port("/dev/a", "1-1", "s2")]])
def test_device_that_is_not_in_its_socket(listing):
    with pytest.raises(DeviceError, match=r"unplugged|now has the serial number s2"):
        ports.current_path(Port("/dev/a", "1-1", "s1"), listing)
