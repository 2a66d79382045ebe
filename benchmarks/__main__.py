"""Print the tables: ``python -m benchmarks [--quick] [--output FILE] [name ...]``, all of them by default.

Each module named in :data:`TABLES` has ``tables(quick)``, which yields :class:`~benchmarks.report.Table` one after
another. Peers are optional: what is not installed is named as such (``pip install -r benchmarks/peers.txt``).
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

from .report import machine

TABLES = ["triplets", "logsumexp", "miners", "engines", "gradient_cache", "loop", "feeding", "evaluation", "starting"]


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; without names it is about all tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What finetuner costs.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"which tables, of {', '.join(TABLES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all of it runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="append what is printed there")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TABLES]
    if unknown:
        parser.error(f"name must be one of {', '.join(TABLES)}, got {', '.join(unknown)}")
    options.names = options.names or TABLES
    return options


def main() -> None:
    """Read the command line and print."""
    options = parsed()

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
