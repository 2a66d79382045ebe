"""What the parity suite found: a table of this engine by mode, and one of all engines that were run."""

import json
from collections import Counter
from pathlib import Path

MODES = ("eager", "traced", "full")


class Table:
    """Counts of passed and failed cases, by class and mode."""

    def __init__(self, engine, path=None):
        self.engine, self.path, self.counts = engine, path and Path(path), Counter()

    def add(self, name, mode, outcome):
        self.counts[name, mode, outcome] += 1

    def cell(self, name, modes):
        passed, failed = (sum(self.counts[name, mode, how] for mode in modes) for how in ("passed", "failed"))
        return f"{passed} of {passed + failed}" if passed + failed else "-"

    def all_engines(self):
        """Cells of every engine that was run with the same ``path``, this one's written there."""
        kept = json.loads(self.path.read_text()) if self.path and self.path.is_file() else {}
        kept[self.engine] = {name: self.cell(name, MODES) for name, _, _ in self.counts}
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(kept, indent=1))
        return kept

    def lines(self):
        names = list(dict.fromkeys(name for name, _, _ in self.counts))
        yield row("", MODES)
        yield from (row(name, [self.cell(name, [mode]) for mode in MODES]) for name in names)
        yield f"{sum(count for key, count in self.counts.items() if key[2] == 'passed')} cases passed"
        engines = self.all_engines()
        if len(engines) > 1:
            yield ""
            yield row("all modes", engines)
            for name in dict.fromkeys(name for cells in engines.values() for name in cells):
                yield row(name, [cells.get(name, "-") for cells in engines.values()])


def row(head, cells):
    return f"{head:<22}" + "".join(f"{cell:>18}" for cell in cells)
