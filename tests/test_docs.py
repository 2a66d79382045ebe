"""The names, defaults and tables in the documentation match the code."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import finetuner.tuner.base as base
from finetuner.tuner.base import losses
from finetuner.tuner.base.target_types import TARGET_TYPES

DOCS = Path(__file__).parents[1] / "docs"
CONCRETE = {
    name: type(name, (cls,), dict.fromkeys(cls.__abstractmethods__)) if inspect.isabstract(cls) else cls
    for name, cls in vars(base).items()
}
LIBRARIES = ["Jina Finetuner", "OML", "pytorch-metric-learning", "sentence-transformers"]


def tables(page):
    """The tables of a page: lists of rows of cells, the heads first."""
    found, inside = [], False
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("|") and not inside:
            found.append([])
        inside = line.startswith("|")
        if inside and set(line) - set("|- "):
            found[-1].append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def rows(page, first):
    """Rows of the tables of a page whose first column is headed ``first``."""
    return [row for table in tables(page) if table[0][0] == first for row in table[1:]]


def code(cell):
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def calls(cell):
    """Calls of our names that stand in backticks."""
    for text in code(cell):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in base.__all__:
                yield node


def test_every_loss_has_one_row_with_its_sampler():
    found = rows("losses.md", "loss")
    named = [name for row in found for name in code(row[0])]
    assert sorted(named) == sorted(set(losses.__all__) - {"Loss"})
    for row in found:
        first, *aliases = (getattr(losses, name) for name in code(row[0]))
        assert row[2:4] == [first.target_type, first.sampler], first.__name__
        assert all(alias is first for alias in aliases)


def test_every_target_type_has_a_dataset():
    found = rows("losses.md", "target type")
    assert [row[0] for row in found] == list(TARGET_TYPES)
    for row in found:
        assert {name for name in code(row[1]) if name.endswith("Dataset")} <= set(base.__all__)


def test_every_reduction_is_that_of_the_loss():
    found = rows("losses.md", "losses")
    named = [name for row in found for name in code(row[0])]
    assert sorted(named) == sorted(set(losses.__all__) - {"Loss", "TripletMarginLoss", "ClipLoss"})
    for _, reductions, _ in found:
        assert code(reductions) or reductions == "mean"
    for names, reductions, _ in found:
        for name in code(names):
            cls = getattr(losses, name)
            has = "reduction" in inspect.signature(cls).parameters
            assert has == bool(code(reductions)), name
            for reduction in ("mean", "nonzero_mean", "sum", "none") if has else ():
                if reduction in code(reductions):
                    assert cls(reduction=reduction).reduction == reduction
                else:
                    with pytest.raises(ValueError, match="reduction must be one of"):
                        cls(reduction=reduction)


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_called_ours_is_ours(library):
    section = (DOCS / "coming-from.md").read_text().split(f"\n## {library}\n")[1].split("\n## ")[0]
    found = [row for row in rows("coming-from.md", "there") if "| " + " | ".join(row) + " |" in squeezed(section)]
    assert len(found) > 10
    for row in found:
        assert len(row) == 3, row
        for name in re.findall(r"\b([A-Z]\w*(?:Loss|Miner|Pooling|Dataset|Sampler)|GeM)\b", " ".join(code(row[1]))):
            if "framework" not in row[1] and not row[1].startswith('`loss="'):  # those are the framework's names
                assert name in base.__all__, name


def squeezed(text):
    """With empty cells as :func:`tables` reads them."""
    return text.replace("| |", "|  |")


@pytest.mark.parametrize("page", ["losses.md", "coming-from.md"])
def test_calls_of_ours_have_our_arguments(page):
    column = {"losses.md": range(5), "coming-from.md": [1]}[page]
    cells = [cell for table in tables(page) for row in table[1:] for i, cell in enumerate(row) if i in column]
    found = [node for cell in cells for node in calls(cell)]
    assert len(found) > 2
    for node in found:
        cls = getattr(base, node.func.id)
        text = ast.unparse(node)
        bound = inspect.signature(cls).bind(*node.args, **{word.arg: word.value for word in node.keywords})
        free = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)} - set(base.__all__)
        assert bound.arguments or not node.args
        if not free:
            eval(compile(ast.Expression(node), text, "eval"), CONCRETE.copy())  # within its range, too


def test_defaults_of_the_losses():
    """The numbers in brackets, of the column of formulas."""
    documented = {code(row[0])[0]: re.search(r"\[([^]]*)\]", row[1]) for row in rows("losses.md", "loss")}
    for name, match in documented.items():
        assert match, name
        cls = getattr(losses, name)
        defaults = [p.default for p in inspect.signature(cls).parameters.values()]
        numbers = {float(d) for d in defaults if isinstance(d, int | float) and not isinstance(d, bool)}
        numbers |= {float(v) for d in defaults if isinstance(d, tuple) for v in d}
        for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", match[1]):
            assert float(number) in numbers, (name, number)
        for distance in ("cosine", "euclidean"):
            assert (distance in match[1]) == (distance in defaults), name
