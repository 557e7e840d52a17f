"""Peak memory of a process (Linux), and settings that make it keep freed memory."""

from __future__ import annotations

from pathlib import Path

# Environment of a process that keeps freed memory, like the command line: newly allocated pages must be zeroed, which
# for blocks of gigabytes took longer than the arithmetic.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def forget_peak() -> None:
    """Reset the peak to the current use."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """Peak memory of this process since the reset, in GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
