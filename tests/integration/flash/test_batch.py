"""Batches: which row a unit gets, what is refused, and labels. Boards are models."""

import re
import threading

import pytest
from patrolink.cli import main
from patrolink.core import keys
from patrolink.flash import flash_image, ledger, ports
from patrolink.flash.batch_rows import BatchRows
from patrolink.flash.fleet import Fleet, Options
from patrolink.flash.provision.device_row import DeviceRow
from patrolink.flash.provision.device_table import TableDevice
from patrolink.flash.provision.plan import PlannedDevice
from patrolink.flash.provision.site_secret import SiteSecret
from patrolink.flash.records import Assignment, Identity, Plan, Port, RefusedError

from tests.support.batch_site import BOARD, BatchSite, small_agent
from tests.support.flash_images import write_signed_image
from tests.support.json_lines import records
from tests.support.killed_batch import model_method
from tests.support.model_boards import ModelBoard
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.provision_site import SECRET


def planned(name: str, unique_id: str = "", board: str = BOARD) -> PlannedDevice:
    row = DeviceRow(serial=name, device=name, circle="c", board=board, unique_id=unique_id)
    return PlannedDevice(TableDevice(row, 2, (1,)), SiteSecret(SECRET).device_key(name, 0), "new", b"{}")


def unit(unique_id: str, device: str = "") -> Identity:
    return Identity(unique_id=unique_id, device=device)


def test_rows_of_units():
    devices = [
        planned("a"),
        planned("b", "bbbb"),
        planned("c"),
        planned("d", board="linux"),
        planned("e"),
        planned("f"),
    ]
    rows = BatchRows(devices, {"a": "aaaa"}, BOARD)
    for port, identity, name in (
        ("p1", unit("1111"), "c"),  # the first free row of this board
        ("p2", unit("bbbb"), "b"),  # named by the table
        ("p3", unit("aaaa"), "a"),  # named by the ledger
        ("p4", unit("2222", "f"), "f"),  # named by its own configuration
        ("p5", unit("3333", "c"), "e"),  # what it says of itself is taken
        ("p1", unit("1111"), "c"),  # the second attempt
    ):
        if port == "p5":
            assert rows.take(port, identity, free=False) is None
        assert rows.take(port, identity, free=port in ("p1", "p5")).name == name
    for port, identity, text in (
        ("p6", unit("4444"), "no row of board mps2_an385 is free for unit 4444; add a row"),
        ("p7", unit(""), "no unique id"),
        ("p8", unit("1111"), "p1 has the unique id 1111, too; disconnect one"),
    ):
        with pytest.raises(RefusedError, match=text):
            rows.take(port, identity)


@pytest.mark.parametrize(
    ("table", "units", "text"),
    [
        ([planned("a", "1111")], {"b": "1111"}, "unit 1111 is b in the ledger, a in the table"),
        ([planned("a")], {"b": "1111"}, "unit 1111 is b in the ledger; add its row"),
        ([planned("a", "1111")], {"a": "2222"}, "a is unit 2222 in the ledger, and two units must not have one key"),
        ([planned("a", "1111", "linux")], {}, "the row of a is for board linux, the image for mps2_an385"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(table, units, text):
    with pytest.raises(RefusedError, match=text):
        BatchRows(table, units, BOARD).take("p", unit("1111"))


@pytest.fixture
def site(tmp_path):
    """A site with four rows; model boards are reached instead of ports."""
    harness = BatchSite(tmp_path, 4)
    with model_method(tmp_path, lambda: None):
        yield harness


def boards(site, count: int) -> list[ModelBoard]:
    return [ModelBoard(site.folder / f"b-{i}.board") for i in range(count)]


def paths(board_list) -> list[str]:
    return [str(board.path) for board in board_list]


def test_batch_and_resume(site, capsys):
    first, second = boards(site, 2)
    second.path.with_suffix(".dead").touch()
    assert site.flash(paths([first, second]), "--json") == 1
    one, other, summary = records(capsys.readouterr().out)
    assert (one["device"], one["serial"], one["flash_state"]) == ("radio-1", "SN-0001", "flashed")
    assert other["device"] is None and summary["unprovisioned"] == ["radio-2", "radio-3", "radio-4"]
    assert site.flash(paths([first, second])) == 2
    assert "batch 'monday' has entries in" in capsys.readouterr().err
    second.path.with_suffix(".dead").unlink()
    assert site.flash(paths([first, second]), "--resume") == 0
    out = capsys.readouterr().out
    assert "radio-1: unchanged" in out and "radio-2: flashed" in out
    assert "batch monday: not done yet: radio-3, radio-4; repeat with --resume" in out
    steps = ledger.progress(site.history().events, "monday")
    for name in ("radio-1", "radio-2"):
        assert ledger.done_steps(steps[name]) == ["assign", "flash", "provision", "label"]
    assert site.check() == 1
    out = capsys.readouterr().out
    assert "radio-3: not provisioned" in out and "radio-1" not in out and "radio-2" not in out


def test_provisioning_again_keeps_units(site, capsys):
    (board,) = boards(site, 1)
    assert site.flash(paths([board])) == 0
    assert site.run(*site.labels()) == 0
    assert f"PL1:radio-1:SN-0001:{board.unique_id}" in (site.folder / "labels.zpl").read_text()
    assert site.units()["radio-1"] == board.unique_id


def test_dry_run_writes_nothing(site, capsys):
    board, dead = boards(site, 2)
    dead.path.with_suffix(".dead").touch()
    before = site.files()
    assert site.flash(paths([board, dead]), "--dry-run") == 1
    assert "radio-1: planned" in capsys.readouterr().out and site.files() == before


def test_device_whose_configuration_failed_is_not_done_and_gets_no_label(site, capsys):
    first, second = boards(site, 2)
    second.path.with_suffix(".full").touch()
    assert site.flash(paths([first, second]), "--json") == 1
    assert records(capsys.readouterr().out)[-1]["unprovisioned"] == ["radio-2", "radio-3", "radio-4"]
    steps = ledger.progress(site.history().events, "monday")
    assert "label" in ledger.done_steps(steps["radio-1"]) and "label" not in ledger.done_steps(steps["radio-2"])


def test_another_image_does_not_continue_a_batch(site, capsys):
    (board,) = boards(site, 1)
    assert site.flash(paths([board])) == 0
    site.image = write_signed_image(site.folder / "other.plimg", small_agent(b"other"), version="2.0")
    assert site.flash(paths([board]), "--resume") == 2
    assert "has written 1.0" in capsys.readouterr().err


def test_image_that_was_there_already_is_verified_and_provisioned(site, capsys):
    (board,) = boards(site, 1)
    board.change(content=flash_image.load(site.image).header.sha256.hex())
    assert site.flash(paths([board])) == 0
    assert "radio-1: provisioned" in capsys.readouterr().out
    assert ledger.done_steps(ledger.progress(site.history().events)["radio-1"]) == [
        *("assign", "verify", "provision", "label")
    ]


def test_unit_whose_counters_were_erased_needs_a_new_key(site, capsys):
    (board,) = boards(site, 1)
    assert site.flash(paths([board])) == 0
    board.change(files={})
    assert site.flash(paths([board]), "--resume") == 1
    assert "--rotate radio-1`, then repeat" in capsys.readouterr().out and board.config == {}
    assert site.run("--rotate", "radio-1") == 0
    assert site.flash(paths([board]), "--resume") == 0 and board.config["key_epoch"] == 1


def test_unit_that_replaces_a_lost_one_gets_its_row_with_a_new_key(site, capsys):
    lost, spare = boards(site, 2)
    assert site.flash(paths([lost])) == 0
    assert site.revoke("radio-1", "--reason", "lost") == 0
    assert site.flash(paths([spare]), "--resume") == 2  # the row is barred
    assert site.run("--rotate", "radio-1") == 0
    site.folder.joinpath("state").mkdir(exist_ok=True)
    assert main(["hub", "unbar", "--site", str(site.folder / "site.toml"), "radio-1", "--reason", "new unit"]) == 0
    assert site.flash(paths([spare]), "--resume") == 0
    assert spare.config["device"] == "radio-1" and spare.config["key"] != lost.config["key"]
    assert site.units()["radio-1"] == spare.unique_id
    capsys.readouterr()
    assert site.flash(paths([lost]), "--resume") == 0
    assert lost.config["device"] == "radio-2"  # it is back, as another device


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--resume"], "--resume belongs to --provision"),
        (["--labels", "x.pdf"], "--labels belongs to --provision"),
        (["--provision", "devices.csv"], "give one with --batch NAME"),
        (["--provision", "devices.csv", "--batch", "b"], "site.toml"),
        (
            ["--provision", "devices.csv", "--batch", "b", "--method", "esptool"],
            "writes platform images|does not reach",
        ),
    ],
)
def test_options_that_do_not_fit(site, capsys, options, text):
    assert main(["flash", str(site.image), "a", "--unverified", *options]) == 2
    assert re.search(text, capsys.readouterr().err)


def test_labels_that_cannot_be_drawn_are_refused_before_anything_is_written(site, capsys):
    site.replace("site.toml", "Harbour circle", "港区")
    site.replace("devices.csv", "Harbour circle", "港区")
    (board,) = boards(site, 1)
    assert site.flash(paths([board])) == 2
    assert "give a font that has it with --label-font" in capsys.readouterr().err
    assert board.state["writes"] == 0 and "radio-1" not in keys.load(site.folder / "keys.toml")


def test_rows_go_in_the_order_of_the_ports(tmp_path):
    """Although the devices are identified in the reverse order; one that does not answer holds nobody up for ever."""
    order, started = [], threading.Barrier(4)

    class Slow:
        def __init__(self, port) -> None:
            self.port = port

        def __getattr__(self, name):
            return lambda *args: None

        def check_cancelled(self) -> None:
            pass

        def identify(self) -> Identity:
            if not any(self.port == port for port in identified):
                started.wait(TIMEOUT_S)
                wait_until(lambda: len(identified) == 3 - int(self.port))
                identified.append(self.port)
            return unit(self.port)

        def plan(self, identity):
            return Plan("x", 1)

        def provision(self, assignment) -> bool:
            return True

    def assign(device, in_order):
        if not in_order:
            return None
        order.append(device.path)
        return Assignment(device.path, "", {})

    identified: list[str] = []
    ports_of = [Port(str(i)) for i in range(4)]
    fleet = Fleet(
        ports_of, lambda path, cancel: Slow(path), ports.list_ports, Options(4, 0), lambda d: None, assign=assign
    )
    fleet.run()
    assert order == ["0", "1", "2", "3"] and identified == ["3", "2", "1", "0"]
