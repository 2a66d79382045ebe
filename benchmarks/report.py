"""Tables in Markdown, and what they were measured on."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .harness import THREADS, Times

__all__ = ["Table", "machine", "megabytes", "ratio"]

PACKAGES = ("finetuner", "numpy", "torch", "keras", "tensorflow", "jax", "paddlepaddle", "faiss-cpu")
PEERS = ("pytorch-metric-learning",)


@dataclass
class Table:
    """A title, a header, rows, and a note on what is compared with what."""

    title: str
    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    note: str = ""

    def __str__(self) -> str:
        cells = [self.header, *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else [])])


def ratio(ours: Any, other: Any) -> str:
    """How many times as long ours takes as the other; a dash where one of them could not be measured."""
    if not (isinstance(ours, Times) and isinstance(other, Times)):
        return "-"
    return f"{ours.median / other.median:.3g}"


def megabytes(value: Any) -> str:
    """Bytes as MiB; a reason as it is."""
    return f"{value / 2**20:.0f} MiB" if isinstance(value, int) else str(value)


def machine() -> str:
    """The processor, its memory and the versions of all that is compared."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for name in (*PACKAGES, *PEERS):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return f"{model}, {THREADS} threads, {memory:.0f} GiB; Python {platform.python_version()}, {', '.join(versions)}"
