"""The verdict in ``result.json``, computed once per transform and then read from there."""

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
METHOD = 1  # incremented whenever the verdict on a registration may change


class KeptCheck(TypedDict):
    """One check."""

    name: str
    state: State
    finding: str


class Kept(TypedDict):
    """A verdict, the version of its rules, and the hash of its ``transform.h5``."""

    method: int
    transform_sha256: str
    state: State
    checks: Annotated[list[KeptCheck], Meta(min_length=1)]


def verdict_of(case: Case) -> Verdict:
    """The verdict stored in ``result.json`` for this transform, or a new one, which is then stored there.

    It is not stored in a read-only folder.
    """
    digest = sha256(case.folder / "transform.h5")
    path = case.folder / RESULT_FILE
    with suppress(MaxcaError):  # no verdict yet, or an invalid one: compute it again
        kept = fitted(case.record.get(KEY), Kept, path, "the record of a registration; run maxca register again")
        if kept["method"] == METHOD and kept["transform_sha256"] == digest:
            return Verdict(tuple(Check(**check) for check in kept["checks"]))
    verdict = judge(case)
    checks = [{"name": c.name, "state": c.state, "finding": c.finding} for c in verdict.checks]
    case.record[KEY] = {"method": METHOD, "transform_sha256": digest, "state": verdict.state, "checks": checks}
    with suppress(MaxcaError), atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(case.record, indent=2) + "\n", encoding="utf-8")
    return verdict
