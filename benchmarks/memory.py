"""The memory of a process: its peak, from the kernel's books (Linux), and how it is kept."""

from __future__ import annotations

from pathlib import Path

# For the environment of a process that keeps what it frees, as the command line does: a page that is handed out anew
# must be zeroed, which for blocks of gigabytes took longer than the arithmetic.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def forget_peak() -> None:
    """Let the peak begin again at what is in use now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """The most memory this process has held since then, in GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
