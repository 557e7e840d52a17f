"""Landmarks of two images belong together by their names, not by their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxca.errors import MaxcaError
from maxca.io.landmarks import paired
from maxca.io.points import Points

FILES = Path("fixed.csv"), Path("moving.csv")


def points(names: str, undefined: str = "") -> Points:
    """A point for each letter, whose coordinates tell which it is; those of ``undefined`` come without a place."""
    placed = [name for name in names if name not in undefined]
    rows = tuple((n, name) for n, name in enumerate(names) if name in undefined)
    return Points(np.array([[ord(name), 0, 0] for name in placed]).reshape(-1, 3), tuple(placed), undefined=rows)


def refused(fixed: Points, moving: Points, *words: str) -> None:
    with pytest.raises(MaxcaError) as caught:
        paired(fixed, moving, FILES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    for word in words:
        assert word in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.permutations("ABCDEF"), st.permutations("ABCDEF"), st.sets(st.sampled_from("ABCDEF"), max_size=2), st.data())
def test_any_order_and_any_undefined_points_pair_up_by_name(
    ours: list[str], theirs: list[str], gone: set[str], data: st.DataObject
) -> None:
    gone_there = "".join(data.draw(st.sets(st.sampled_from("ABCDEF"), max_size=2)))
    fixed, moving, said = paired(points("".join(ours), "".join(gone)), points("".join(theirs), gone_there), FILES)
    assert said == ()
    assert fixed.labels == moving.labels == tuple(name for name in ours if name not in gone | set(gone_there))
    np.testing.assert_array_equal(fixed.coordinates, moving.coordinates)


def test_points_without_names_pair_up_row_by_row_past_the_undefined_ones() -> None:
    ours = Points(np.array([[1.0, 0, 0], [3, 0, 0]]), undefined=((1, ""),))
    theirs = Points(np.array([[1.0, 0, 0], [2, 0, 0], [3, 0, 0]]))
    fixed, moving, _ = paired(ours, theirs, FILES)
    np.testing.assert_array_equal(fixed.coordinates, moving.coordinates)
    named = Points(theirs.coordinates, ("a", "b", "c"))
    np.testing.assert_array_equal(paired(ours, named, FILES)[1].coordinates, moving.coordinates)


@given(st.permutations("ABCDEF"), st.permutations("CDEFGH"))
def test_names_of_one_side_alone_are_left_out_and_named(ours: list[str], theirs: list[str]) -> None:
    fixed, moving, said = paired(points("".join(ours)), points("".join(theirs)), FILES)
    assert fixed.labels == moving.labels == tuple(name for name in ours if name in "CDEF")
    np.testing.assert_array_equal(fixed.coordinates, moving.coordinates)
    assert [line[:10] for line in said] == ["moving.csv", "fixed.csv:"]
    assert all(f"'{name}'" in said[n] for n, names in enumerate(("AB", "GH")) for name in names)


def test_what_does_not_pair_up_is_refused_by_name() -> None:
    refused(points("ABA"), points("ABC"), "fixed.csv", "more than one", "'A'")
    refused(points("ABCDEFGH"), points("X"), "moving.csv", "'A', 'B', 'C' and 5 more")
    refused(Points(np.zeros((2, 3)), ("A", "")), points("AB"), "fixed.csv", "point 2 has no name")
    refused(Points(np.zeros((2, 3))), Points(np.zeros((3, 3))), "2 fixed and 3 moving points", "row n")
    refused(points("AB", "A"), points("AB", "B"), "no landmark")
