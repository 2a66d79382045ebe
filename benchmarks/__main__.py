"""Print benchmark tables: ``python -m benchmarks [--quick] [--output FILE] [name ...]``. The default is all tables.

Each module in :data:`TABLES` has a function ``tables(quick)`` that yields :class:`~benchmarks.report.Table`. Other
libraries are optional (``pip install -r benchmarks/peers.txt``). A cell says if one is not installed.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

from .report import machine

TABLES = [
    "limits",
    "triplets",
    "logsumexp",
    "miners",
    "engines",
    "gradient_cache",
    "loop",
    "processes",
    "text",
    "feeding",
    "evaluation",
    "starting",
]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Without names, all tables are selected."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the time and memory of finetuner."
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"tables to print: {', '.join(TABLES)}; the default is all"
    )
    parser.add_argument("--quick", action="store_true", help="use small sizes, to check that all benchmarks run")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also append the tables to FILE")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TABLES]
    if unknown:
        parser.error(f"name must be one of {', '.join(TABLES)}, got {', '.join(unknown)}")
    options.names = options.names or TABLES
    return options


def main() -> None:
    """Print the tables that the command line selects."""
    options = parse_arguments()

    def show(text: str) -> None:
        print(text, flush=True)
        if options.output:
            with options.output.open("a") as file:
                file.write(text + "\n")

    show(machine())
    started = time.perf_counter()
    for name in options.names:
        for table in importlib.import_module(f"benchmarks.{name}").tables(options.quick):
            show(f"\n{table}")
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
