"""The file ``split.json`` of a data set."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

MEANT = 'a split; it contains {"train": [names], "val": [names]}'
Name = str | int


class Split(TypedDict):
    """Subjects for training and validation, and subjects that are rescans of others."""

    train: list[Name]
    val: list[Name]
    rescans: NotRequired[list[Annotated[list[Name], Meta(min_length=2, max_length=2)]]]
