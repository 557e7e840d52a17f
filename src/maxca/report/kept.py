"""The verdict in ``result.json``: worked out once for a transform, and read from there afterwards."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, TypedDict

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE, atomic_path
from maxca.io.digest import sha256
from maxca.io.records import fitted
from maxca.report.case import Case
from maxca.report.verdict.check import Check, State, Verdict
from maxca.report.verdict.judge import judge

KEY = "verdict"
METHOD = 1  # raised whenever a registration may get another verdict than before


class KeptCheck(TypedDict):
    """One check."""

    name: str
    state: State
    finding: str


class Kept(TypedDict):
    """A verdict, how it was worked out, and for which ``transform.h5``."""

    method: int
    transform_sha256: str
    state: State
    checks: Annotated[list[KeptCheck], Meta(min_length=1)]


def verdict_of(case: Case) -> Verdict:
    """The verdict that ``result.json`` holds for this transform, or a new one, which is then kept there.

    A folder that cannot be written to keeps none.
    """
    digest = sha256(case.folder / "transform.h5")
    path = case.folder / RESULT_FILE
    with suppress(MaxcaError):  # no verdict yet, or none that can be read: it is worked out again
        kept = fitted(case.record.get(KEY), Kept, path, "the record of a registration; run maxca register again")
        if kept["method"] == METHOD and kept["transform_sha256"] == digest:
            return Verdict(tuple(Check(**check) for check in kept["checks"]))
    verdict = judge(case)
    checks = [{"name": c.name, "state": c.state, "finding": c.finding} for c in verdict.checks]
    case.record[KEY] = {"method": METHOD, "transform_sha256": digest, "state": verdict.state, "checks": checks}
    with suppress(MaxcaError), atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(case.record, indent=2) + "\n", encoding="utf-8")
    return verdict
