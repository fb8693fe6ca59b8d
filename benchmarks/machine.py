"""What the figures were measured on: enough to compare with, nothing that names the machine."""

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path
from statistics import median

from streams import clock

SYNCS = 50
SYNC_BYTES = 4096
PACKAGES = ("faust-streaming", "aiokafka", "aiohttp", "msgspec", "rocksdict")


def machine(base: Path) -> dict[str, str]:
    """Processor, versions, and how long a fsync takes where the data is."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
        "fsync of 4 KiB": f"{_fsync_ms(base):.2f} ms (median of {SYNCS})",
    }


def load_average() -> str:
    """Runnable processes over the last minute: what else ran."""
    return f"{os.getloadavg()[0]:.2f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _fsync_ms(base: Path) -> float:
    took_ms = []
    descriptor = os.open(base / "fsync", os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(SYNCS):
            os.write(descriptor, bytes(SYNC_BYTES))
            started_s = clock.monotonic_s()
            os.fsync(descriptor)
            took_ms.append((clock.monotonic_s() - started_s) * 1000)
    finally:
        os.close(descriptor)
    return median(took_ms)
