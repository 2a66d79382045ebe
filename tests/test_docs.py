"""What the pages tell of is there."""

import re
from pathlib import Path

import finetuner.tuner.base as base
from finetuner.tuner.base import losses

DOCS = Path(__file__).parents[1] / "docs"


def table(page, first):
    """Rows of the tables of a page whose first column is headed ``first``."""
    rows, inside = [], False
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and set(line) - set("|- "):
            rows.append(cells)
    return rows


def test_every_loss_has_one_row_with_its_sampler():
    rows = table("losses.md", "loss")
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(set(losses.__all__) - {"Loss"})
    for row in rows:
        cls = getattr(losses, re.search(r"`(\w+)`", row[0])[1])
        assert row[2:4] == [cls.takes, cls.sampler], cls.__name__


def test_what_is_called_ours_is_ours():
    rows = table("coming-from.md", "there")
    assert len(rows) > 30
    for row in rows:
        for name in re.findall(r"`([A-Z]\w*(?:Loss|Miner|Dataset|Sampler|Precision|GeM))\b", row[1]):
            assert name in base.__all__, name
