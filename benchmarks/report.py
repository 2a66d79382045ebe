"""Tables in Markdown, and a description of the machine."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .harness import THREADS, Times

__all__ = ["Table", "machine", "megabytes", "ratio"]

PACKAGES = ("finetuner", "numpy", "torch", "keras", "tensorflow", "jax", "paddlepaddle", "faiss-cpu")
PEERS = ("pytorch-metric-learning", "sentence-transformers", "transformers")


@dataclass
class Table:
    """A table with a title, a header, rows, and a note that explains the comparison."""

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
    """The time of ``ours`` divided by the time of ``other``, or a dash if one could not be measured."""
    if not (isinstance(ours, Times) and isinstance(other, Times)):
        return "-"
    return f"{ours.median / other.median:.3g}"


def megabytes(value: Any) -> str:
    """A number of bytes in MiB. A text is returned unchanged."""
    return f"{value / 2**20:.0f} MiB" if isinstance(value, int) else str(value)


def machine() -> str:
    """The processor, the memory, and the versions of the packages."""
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
