"""The table of devices: every kind of error is listed with its row, and hostile content never passes."""

import random

import pytest
from hypothesis import strategies as st
from patrolink.core.errors import UserError
from patrolink.flash.provision import device_table
from patrolink.flash.provision.device_table import BYTES_MAX, ROWS_MAX, Names

from tests.support.properties import untimed

NAMES = Names({"Harbour circle": 1, "港口巡逻队": 2, "Old town, night": 3}, ["linux", "rpi_pico"])
HEADER = "serial,device,circle,board,groups,unique_id"
VALID = "S-1,vest-1,Harbour circle,linux,,"


def load(tmp_path, content):
    path = tmp_path / "devices.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return device_table.load(path, NAMES)


def errors(tmp_path, *rows, header=HEADER):
    """Return the lines of the error, without the path."""
    with pytest.raises(UserError) as raised:
        load(tmp_path, "\n".join((header, *rows)) + "\n")
    return [line.removeprefix(f"{tmp_path / 'devices.csv'}: ") for line in str(raised.value).splitlines()]


def test_valid_table_has_rows_groups_and_plain_ids(tmp_path):
    table = load(
        tmp_path, f'{HEADER}\n{VALID}\n\nS/2,vest_2,港口巡逻队,rpi_pico,"Old town, night | 1",24:6F:28:AA-BB CC\n'
    )
    assert [device.row.device for device in table.devices] == ["vest-1", "vest_2"] and table.delimiter == "commas"
    assert [device.groups for device in table.devices] == [(1,), (1, 2, 3)]
    assert table.devices[1].row.unique_id == "246f28aabbcc" and table.devices[1].number == 4


@pytest.mark.parametrize(("separator", "name"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_of_spreadsheets_are_read(tmp_path, separator, name, newline, mark):
    text = f"{mark}{HEADER.upper()}{newline}{VALID}{newline},,,,,{newline}".replace(",", separator)
    table = load(tmp_path, text)
    assert len(table.devices) == 1 and table.delimiter == name


def test_columns_have_any_order_and_optional_ones_may_be_missing(tmp_path):
    assert load(tmp_path, "board,circle,device,serial\nlinux,Harbour circle,a,1\n").devices[0].row.serial == "1"


def test_unicode_forms_of_a_name_are_equal(tmp_path):
    names = Names({"Mont\u00e9": 1}, ["linux"])
    path = tmp_path / "d.csv"
    path.write_text("serial,device,circle,board\n1,a,Monte\u0301,linux\n", encoding="utf-8")
    assert device_table.load(path, names).devices[0].groups == (1,)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (",a,Harbour circle,linux,,", "row 2: serial: is empty; enter 1 to 32 of"),
        ("S,,Harbour circle,linux,,", "row 2: device: is empty; enter a device id"),
        ("S,a,,linux,,", "row 2: circle: is empty; enter the name of a talk group"),
        ("S,a,Harbour circle,,,", "row 2: board: is empty; enter the name of a board"),
        ("S,a b,Harbour circle,linux,,", "row 2: device: 'a b' is not valid"),
        ("S,../../etc,Harbour circle,linux,,", "row 2: device: '../../etc' is not valid"),
        ("S,é,Harbour circle,linux,,", "row 2: device: 'é' is not valid"),
        (f"S,{'a' * 33},Harbour circle,linux,,", "row 2: device: 'aaaa"),
        ("1.23E+11,a,Harbour circle,linux,,", "row 2: serial: is a number that the spreadsheet has rounded"),
        ("=1+1,a,Harbour circle,linux,,", "row 2: serial: begins with '=', which a spreadsheet takes for a formula"),
        ("S,-a,Harbour circle,linux,,", "row 2: device: begins with '-'"),
        ("S,@a,Harbour circle,linux,,", "row 2: device: begins with '@'"),
        ("S,a,Harbour circle,linux,+1,", "row 2: groups: begins with '+'"),
        ("S,a\x00,Harbour circle,linux,,", "row 2: device: has control or invisible characters"),
        ("S,a\u202e,Harbour circle,linux,,", "row 2: device: has control or invisible characters"),
        ("S,a\u200b,Harbour circle,linux,,", "row 2: device: has control or invisible characters"),
        ('S,"a\nb",Harbour circle,linux,,', "row 2: device: has control or invisible characters"),
        (
            "S,a,Harbor circle,linux,,",
            "row 2: circle: the site has no talk group 'Harbor circle'; did you mean 'Harbour",
        ),
        ("S,a,1,linux,,", "row 2: circle: the site has no talk group '1'; add the group to the site file"),
        ("S,a,Harbour circle,linux,9,", "row 2: groups: the site has no talk group '9'"),
        ('S,a,Harbour circle,linux,"1,2",', "row 2: groups: the site has no talk group '1,2'; separate names by |"),
        ("S,a,Harbour circle,linus,,", "row 2: board: there is no board 'linus'; did you mean linux?"),
        ("S,a,Harbour circle,esp,,", "row 2: board: there is no board 'esp'; boards are linux, rpi_pico"),
        ("S,a,Harbour circle,linux,,x!", "row 2: unique_id: 'x!' is not valid"),
        ("S,a,Harbour circle,linux", "row 2: has 4 cells instead of 6"),
        ("S,a,Harbour circle,linux,,,,", "row 2: has 8 cells instead of 6"),
        (f"S,{'a' * 600},Harbour circle,linux,,", "row 2: device: has 600 characters; at most 500"),
        ('S,"a"b,Harbour circle,linux,,', "row 2: ',' expected after '\"'; correct the quotes"),
        ('S,"a,Harbour circle,linux,,', "row 2: unexpected end of data; correct the quotes"),
    ],
)
def test_wrong_cell_is_named_with_its_row_and_remedy(tmp_path, row, error):
    lines = errors(tmp_path, row)
    assert len(lines) == 1 and lines[0].startswith(error), lines


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("serial,device,circle", ["row 1: the column board is missing; the first row names the columns"]),
        ("serial,device,circle,board,", ["row 1: column 5 has no name; delete the column"]),
        ("serial,device,circle,board,board", ["row 1: two columns are named board; delete one of them"]),
        ("serial,device,circle,board,grops", ["row 1: unknown column 'grops'; did you mean groups?"]),
        ("serial,device,circle,board,xyz\x9b", ["row 1: unknown column 'xyz\\x9b'; columns are serial, device"]),
        (VALID, ["row 1: unknown column 's-1'", "row 1: unknown column 'vest-1'", "row 1: unknown column 'harbour"]),
    ],
)
def test_wrong_header_is_named(tmp_path, header, error):
    lines = errors(tmp_path, VALID, header=header)
    assert all(line.startswith(start) for line, start in zip(lines, error, strict=False)), lines


def test_all_errors_are_listed_by_row_and_duplicates_name_the_other_row(tmp_path):
    lines = errors(
        tmp_path,
        "S-1,vest-1,Harbour circle,linux,,24aa",
        "S-2,vest-2,nowhere,linus,,",
        "s-1,VEST-1,Harbour circle,linux,,24:AA",
    )
    assert [line.split(":")[0] for line in lines] == ["row 3", "row 3", "row 4", "row 4", "row 4"]
    assert sorted(line for line in lines if line.startswith("row 4")) == [
        "row 4: device: VEST-1 is in row 2, too; correct one of them",
        "row 4: serial: s-1 is in row 2, too; correct one of them",
        "row 4: unique_id: 24:AA is in row 2, too; correct one of them",
    ]


def test_many_errors_are_cut_off_with_their_number(tmp_path):
    lines = errors(tmp_path, *(f"S-{i},v-{i},x,linux,," for i in range(150)))
    assert len(lines) == 101 and lines[-1] == "50 more errors; correct these first"


@pytest.mark.parametrize(
    ("encoding", "seems"), [("gbk", "GBK"), ("gb18030", "GBK"), ("utf-16", "UTF-16"), ("utf-16-be", "UTF-16")]
)
def test_wrong_encoding_is_named_with_the_remedy(tmp_path, encoding, seems):
    text = f"{HEADER}\n{VALID}\nS-2,vest-2,港口巡逻队,linux,,\n"
    data = ("\ufeff" + text).encode(encoding) if encoding == "utf-16-be" else text.encode(encoding)
    with pytest.raises(UserError, match=f"{seems}.*CSV UTF-8") as raised:
        load(tmp_path, data)
    assert seems != "GBK" or "row 3: not UTF-8" in str(raised.value) and "iconv -f GBK -t UTF-8" in str(raised.value)


def test_latin_1_is_not_taken_for_gbk(tmp_path):
    with pytest.raises(UserError, match="row 2: not UTF-8; it seems to be ISO-8859-1"):
        load(tmp_path, f"{HEADER}\nS-1,vest-1,Mont\xe9,linux,,\n".encode("latin-1"))


def test_workbook_empty_and_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="a workbook of a spreadsheet"):
        load(tmp_path, b"PK\x03\x04...")
    with pytest.raises(UserError, match="the file is empty; its first row is serial,device,circle,board"):
        load(tmp_path, b"")
    with pytest.raises(UserError, match="row 2: there is no device"):
        load(tmp_path, HEADER + "\n,,,,,\n")
    with pytest.raises(UserError, match="the column serial is missing"):
        load(tmp_path, b"\n\n")
    with pytest.raises(UserError, match="No such file"):
        device_table.load(tmp_path / "none.csv", NAMES)


def test_limits_of_size(tmp_path):
    rows = "".join(f"S-{i},v-{i},Harbour circle,linux,,\n" for i in range(ROWS_MAX + 1))
    with pytest.raises(UserError, match="more than 2000 devices; split the table"):
        load(tmp_path, f"{HEADER}\n{rows}")
    assert len(load(tmp_path, f"{HEADER}\n{rows.partition(chr(10))[2]}").devices) == ROWS_MAX
    with pytest.raises(UserError, match="larger than 1024 KB"):
        load(tmp_path, b"x" * (BYTES_MAX + 1))
    with (tmp_path / "huge.csv").open("wb") as f:
        f.truncate(1 << 40)  # sparse; it is not read to its end
    with pytest.raises(UserError, match="larger than 1024 KB"):
        device_table.load(tmp_path / "huge.csv", NAMES)


def test_large_field_is_an_error(tmp_path):
    assert "field larger than field limit" in errors(tmp_path, f"S,{'a' * 200_000},Harbour circle,linux,,")[0]


@untimed(st.binary(max_size=400))
def test_any_bytes_are_refused_or_valid(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    for content in (data, HEADER.encode() + b"\n" + data):
        path.write_bytes(content)
        try:
            device_table.load(path, NAMES)
        except UserError as e:
            assert str(e).startswith(str(path)) and str(e).isprintable() or "\n" in str(e)


@pytest.mark.parametrize("seed", range(5))
def test_altered_valid_tables_never_give_unsafe_names(tmp_path, seed):
    random_source = random.Random(seed)
    valid = f"{HEADER}\n" + "".join(f"S-{i},vest-{i},港口巡逻队,linux,1|2,24{i:02d}\n" for i in range(5))
    for _ in range(300):
        data = bytearray(valid.encode())
        for _ in range(random_source.randrange(1, 4)):
            data[random_source.randrange(len(data))] = random_source.randrange(256)
        try:
            table = load(tmp_path, bytes(data))
        except UserError:
            continue
        for device in table.devices:
            assert device.row.device.replace("-", "").replace("_", "").isalnum() and device.row.device.isascii(), seed
            assert ":" not in device.row.serial + device.row.unique_id and set(device.groups) <= {1, 2, 3}, seed
