"""Labels: every code on the sheets is read back from the rendered pages."""

import hashlib

import pytest
from patrolink.core.errors import UserError
from patrolink.flash.provision import labels
from patrolink.flash.provision.device_row import DeviceRow
from patrolink.flash.provision.device_table import TableDevice
from patrolink.flash.provision.labels import Label

from tests.support.label_sheets import label_cells, pages, read_codes


def label(i: int) -> Label:
    row = DeviceRow(
        serial=f"SN-2026/{i:05d}", device=f"vest-{i}", circle="Harbour circle", board="linux",
        unique_id=hashlib.sha256(b"%d" % i).hexdigest()[: (0, 12, 24)[i % 3]],
    )  # fmt: skip
    return labels.of_device(TableDevice(row, i + 2, (1,)))


def test_codes_of_200_labels_are_read_back():
    sheet = [label(i) for i in range(200)]
    pdf = labels.sheets(sheet)
    assert len(pages(pdf)) == 9 and len(pdf) < 500_000
    assert read_codes(pdf) == [one.code for one in sheet]
    assert labels.sheets(sheet) == pdf  # the same file again


def test_longest_texts_stay_inside_their_label():
    longest = Label(f"PL1:{'W' * 32}:{'W' * 32}:{'f' * 64}", "W" * 32, "W" * 32, "W W W " * 6 + "WWWW")
    pdf = labels.sheets([longest] * 4)
    assert read_codes(pdf) == [longest.code] * 4
    first, *rest = list(label_cells(pages(pdf)[0]))[:4]
    for picture in (first, *rest):
        edges = (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:])
        assert all(edge.min() > 200 for edge in edges)  # white on all sides


def test_code_has_no_secret_and_three_fields():
    assert label(0).code == "PL1:vest-0:SN-2026/00000:"
    assert label(1).code.count(":") == 3


def test_font_without_a_character_is_refused_with_the_option():
    with pytest.raises(UserError, match="the built-in font has no character '港'.*--label-font"):
        labels.sheets([Label("PL1:a:b:", "a", "b", "港口巡逻队")])


def test_font_file_is_used_or_named(tmp_path):
    (tmp_path / "font.ttf").write_bytes(b"no font")
    with pytest.raises(UserError, match="give a TrueType or OpenType font"):
        labels.sheets([label(0)], tmp_path / "font.ttf")
    with pytest.raises(UserError, match="give a TrueType or OpenType font"):
        labels.sheets([label(0)], tmp_path / "none.ttf")
    import matplotlib

    font = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    greek = Label("PL1:a:b:", "a", "b", "Λιμάνι")
    assert read_codes(labels.sheets([greek], font)) == ["PL1:a:b:"]
    assert labels.sheets([greek], font) != labels.sheets([greek._replace(circle="Λιμένα")], font)


def test_zpl_has_a_label_per_device_and_escapes_commands():
    text = labels.zpl([label(1), Label("PL1:a_b:c:", "a_b", "c", "^XZ~JR\\ 港")]).decode()
    assert text.count("^XA") == text.count("^XZ\n") == 2 and text.count("^CI28") == 2
    assert "_5EXZ_7EJR_5C 港" in text and "PL1:a_5Fb:c:" in text and "~JR" not in text
    assert f"^FDMA,{label(1).code}^FS" in text


def test_other_kinds_of_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="ends in .pdf .* or .zpl"):
        labels.render([label(0)], tmp_path / "labels.png", None)
