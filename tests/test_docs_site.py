"""The documentation site: its pages are complete, and what they name exists. ``tox -e docs`` builds it."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import finetuner
import finetuner.data
import finetuner.evaluation
import finetuner.plotting
import finetuner.tuner.base

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("guides/*.md"), *DOCS.glob("reference/*.md")])
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))
PUBLIC = [finetuner, finetuner.data, finetuner.evaluation, finetuner.plotting, finetuner.tuner.base]
GALLERY_IMPORTS = {"finetuner", "finetuner.plotting", "finetuner.tuner.pytorch", "finetuner.tuner.pytorch.functional"}


def described_names():
    """The names that the reference describes, without their modules."""
    directive = r"(?:auto(?:class|function|exception|data)|py:(?:class|data|function))"
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    found = re.findall(rf"^(?:\.\. {directive}::|`+{{{directive}}}) ([\w.]+)", text, re.MULTILINE)
    names = {name.rpartition(".")[2] for name in found}
    for module in re.findall(r"^\.\. automodule:: (finetuner\.tuner\.base\.[\w.]+)\n   :members:$", text, re.MULTILINE):
        names |= set(importlib.import_module(module).__all__)
    return names


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module):
    public = {name for name in module.__all__ if not name.startswith("_")}
    assert public - described_names() == set()


def toctree_entries(page):
    """The pages that a page has in its tables of contents."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.strip() and not line.startswith(":"):
                yield (page.parent / f"{line.strip()}.md").resolve()


def test_every_page_is_in_a_table_of_contents():
    entries = {entry for page in PAGES for entry in toctree_entries(page)}
    assert {page.resolve() for page in PAGES} - entries == {(DOCS / "index.md").resolve()}
    missing = {entry for entry in entries if not entry.exists()}
    assert missing <= {(DOCS / "gallery" / "index.md").resolve()}  # made by the build


def architecture():
    return (DOCS / "architecture.md").read_text()


def test_every_file_of_the_architecture_exists():
    paths = re.findall(r"`((?:finetuner|tests|examples|docs)/[\w/.]*)`", architecture())
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_function_of_the_architecture_is_in_its_file():
    found = re.findall(r"`([\w.]+)` in `(finetuner/[\w/]+\.py)`", architecture())
    assert len(found) > 2
    for name, path in found:
        scope = ast.parse((ROOT / path).read_text()).body
        for part in name.split("."):
            definitions = {node.name: node for node in scope if isinstance(node, ast.ClassDef | ast.FunctionDef)}
            assert part in definitions, (name, path)
            scope = definitions[part].body


def test_every_part_of_the_picture_exists():
    picture = (DOCS / "_static" / "architecture.svg").read_text()
    names = re.findall(r'class="name"[^>]*>([^<]+)<', picture)
    assert len(names) > 8
    folders = [ROOT / "finetuner", ROOT / "finetuner" / "tuner" / "base"]
    for name in re.split(r",\s*", ", ".join(names)):
        name = name.removeprefix("finetuner.").strip("/")
        candidates = [folder / end for folder in folders for end in (name, f"{name}.py")]
        assert any(candidate.exists() for candidate in candidates), name


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_the_gallery_uses_public_names(path):
    tree = ast.parse(path.read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert path.name.startswith("plot_")  # sphinx-gallery runs these only
    assert {module for module in modules if module.startswith("finetuner")} <= GALLERY_IMPORTS
    names = [name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names]
    assert not any(name.name.startswith("_") for name in names)


def test_the_code_of_the_first_page(backend):
    if backend.name != "pytorch":
        pytest.skip("the code is for PyTorch")
    pytest.importorskip("sklearn")
    import torch

    torch.manual_seed(0)
    code = re.search(r"^```python\n(.*?)^```", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    scope = {}
    exec(code, scope)
    documented = [float(number) for number in re.findall(r"\d\.\d+", code.rpartition("#")[2])]
    measured = [scope["run"].metrics[when]["mAP@R"] for when in ("before", "after")]
    assert measured == pytest.approx(documented, abs=0.04)
