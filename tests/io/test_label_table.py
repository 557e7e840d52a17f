"""Tables of labels, as BIDS, FreeSurfer, 3D Slicer and ITK-SNAP write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxca.errors import MaxcaError
from maxca.io.label_table import LabelEntry, read_label_table

BIDS = "index\tname\tabbreviation\tcolor\n0\tbackground\tBG\t#000000\n17\tLeft Hippocampus\tL-Hip\t#DCD814\n"
FREESURFER = """#$Id: FreeSurferColorLUT.txt $

#No. Label Name:                            R   G   B   A
0   Unknown                                 0   0   0   0
17  Left-Hippocampus                        220 216 20  0
"""
CTAB = "  0  unknown           25   5  25    0\n 17  Left-Hippocampus 220 216  20    0\n"
SLICER = "# Color table file generic.ctbl\n# 2 values\n0 background 0 0 0 0\n17 Left_Hippocampus 220 216 20 255\n"
SNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
   17   220  216   20        1  1  1    "Left Hippocampus"
"""


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a_dseg.tsv", BIDS, "Left Hippocampus"),
        ("a.csv", "name,index\nLeft Hippocampus,17\nbackground,0\n", "Left Hippocampus"),
        ("FreeSurferColorLUT.txt", FREESURFER, "Left-Hippocampus"),
        ("a.ctab", CTAB, "Left-Hippocampus"),
        ("a.ctbl", SLICER, "Left_Hippocampus"),
        ("labels.txt", SNAP, "Left Hippocampus"),
        ("windows.txt", "\ufeff" + SNAP.replace("\n", "\r\n"), "Left Hippocampus"),
    ],
)
def test_the_table_of_each_tool_is_read(name: str, text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    entries = read_label_table(tmp_path / name)
    assert sorted(entries) == [0, 17] and entries[17] == LabelEntry(found, 1.0)


def test_a_column_of_weights_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("index,name,weight\n1,liver,0.25\n2,spleen,\n3,left kidney,0\n")
    assert [entry.weight for entry in read_label_table(tmp_path / "a.csv").values()] == [0.25, 1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tsv", "index,name\n1,liver\n", "row 1: no index or no name"),
        ("a.csv", "index,name\n-1,liver\n", "row 1: no index"),
        ("a.csv", "index,name\n1.5,liver\n", "row 1: no index"),
        ("a.csv", "index,name\n²,liver\n", "row 1: no index"),
        ("a.csv", "index,name\n1,liver\n1,spleen\n", "row 2: a second entry of the label 1"),
        ("a.csv", "index,name,weight\n1,liver,-1\n", "row 1: the weight '-1'"),
        ("a.csv", "index,name,weight\n1,liver,inf\n", "row 1: the weight 'inf'"),
        ("a.csv", "index,name,weight\n1,liver,much\n", "row 1: the weight 'much'"),
        ("a.csv", "index,name\n", "no labels"),
        ("a.txt", "", "no labels"),
        ("a.txt", "17 Left Hippocampus\n", "line 1: not a number, a name and a color"),
        ("a.txt", "1 a 0 0 0\n1 b 0 0 0\n", "line 2: a second entry"),
        ("a.txt", "\x00\xff", "line 1|not a text"),
    ],
)
def test_another_table_is_refused_in_a_line_that_says_where(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1" if "\xff" in text else "utf-8")
    with pytest.raises(MaxcaError, match=said) as caught:
        read_label_table(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
