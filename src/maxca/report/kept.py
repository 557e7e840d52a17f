"""The verdict in ``result.json``, computed once per transform and then read from there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import RESULT_FILE, atomic_path
from maxca.io.digest import sha256
from maxca.io.records import encode, fitted, read_json
from maxca.registration.record import MEANT
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
    if (known := kept_verdict(case.folder)) is not None:
        return known
    path = case.folder / RESULT_FILE
    verdict = judge(case)
    checks = [{"name": c.name, "state": c.state, "finding": c.finding} for c in verdict.checks]
    record = read_json(path, dict[str, Any], MEANT)
    digest = sha256(case.folder / "transform.h5")
    record[KEY] = {"method": METHOD, "transform_sha256": digest, "state": verdict.state, "checks": checks}
    with suppress(MaxcaError), atomic_path(path) as unfinished:
        unfinished.write_text(encode(record), encoding="utf-8")
    return verdict


def kept_verdict(folder: Path) -> Verdict | None:
    """The verdict stored in ``result.json``, None if there is none for this transform.

    A copy of ``result.json`` without its transform, as in an output of ``maxca bids``, keeps its verdict.
    """
    path, transform = folder / RESULT_FILE, folder / "transform.h5"
    with suppress(MaxcaError):  # no verdict yet, or an invalid one: compute it again
        kept = fitted(read_json(path, dict[str, Any], MEANT).get(KEY), Kept, path, MEANT)
        if kept["method"] == METHOD and (not transform.exists() or kept["transform_sha256"] == sha256(transform)):
            return Verdict(tuple(Check(**check) for check in kept["checks"]))
    return None
