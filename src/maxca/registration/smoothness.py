"""The choice of the smoothness by trials, for ``result.json``, the log and the report."""

from __future__ import annotations

from dataclasses import dataclass

from maxca.engine.support import Support


@dataclass(frozen=True)
class SmoothnessRecord:
    """The choice of the smoothness by trials on coarse levels; see ``engine.support``.

    Args:
        default_mm: σ of the update before the trials.
        chosen_mm: σ of the update that was used.
        gains: relative increase of mutual information in each trial, at the default smoothness, twice and four times.
        reason: for the log.
    """

    default_mm: float
    chosen_mm: float
    gains: list[float]
    reason: str


def smoothness_record(support: Support | None) -> SmoothnessRecord | None:
    """The record of the trials; None without trials."""
    if support is None:
        return None
    trials = zip((support.default * 2**n for n in range(len(support.gains))), support.gains, strict=True)
    told = ", ".join(f"{100 * gain:+.1f} % at {mm:.3g} mm" for mm, gain in trials)
    reason = f"{support.smoothness:.3g} mm: coarse trials change the mutual information by {told}"
    return SmoothnessRecord(support.default, support.smoothness, list(support.gains), reason)


def doubted(support: Support | None) -> list[str]:
    """A warning if the default smoothness was increased."""
    record = smoothness_record(support)
    if support is None or record is None or not support.smoother:
        return []
    return [
        f"the images do not support the default smoothness of {support.default:.3g} mm; it was increased to "
        f"{record.reason}; inspect the result"
    ]
