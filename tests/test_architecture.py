"""Which file may import which: one direction, no circles, and every file says what lives in it."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "finetuner"

# The layers of the package, the lowest first. A module imports from its own layer and from lower ones.
LAYERS = [
    ["finetuner", "finetuner.checks"],
    ["finetuner.arrays"],
    ["finetuner.labels", "finetuner.files"],
    ["finetuner.evaluation", "finetuner.plotting"],
    [
        "finetuner.tuner.base.processes",
        "finetuner.tuner.base.registry",
        "finetuner.tuner.base.target_types",
        "finetuner.tuner.base.miner",
        "finetuner.tuner.base.poolers",
        "finetuner.tuner.base.data",
    ],
    ["finetuner.tuner.base.losses"],
    ["finetuner.tuner.base.training"],
    ["finetuner.tuner.base"],
    ["finetuner.tuner._paddle_import", "finetuner.tuner"],
    ["finetuner.tuner.pytorch", "finetuner.tuner.keras", "finetuner.tuner.paddle"],
    ["finetuner.saved_runs"],
    ["finetuner.api", "finetuner.data", "finetuner.demo"],
    ["finetuner.models"],
    ["finetuner.cli", "finetuner.__main__"],
]
LAYER_OF = {module: number for number, modules in enumerate(LAYERS) for module in modules}


def module_name(path):
    return ".".join(("finetuner", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module, path=None):
    """The modules that a file imports anywhere, in functions and for type checkers too."""
    path = path or FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "finetuner")
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            if source.partition(".")[0] == "finetuner":
                for alias in node.names:
                    name = f"{source}.{alias.name}"
                    yield name if name in FILES else source


@functools.cache
def graph():
    return {module: {name for name in imports_of(module) if name in FILES and name != module} for module in FILES}


def circles(edges):
    """Groups of modules that import each other, by Tarjan's algorithm for strongly connected components."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def layer_of(module):
    parts = module.split(".")
    return next(LAYER_OF[name] for i in range(len(parts), 0, -1) if (name := ".".join(parts[:i])) in LAYER_OF)


def test_no_circle_of_imports():
    edges = graph()
    print(f"{len(edges)} files, {sum(map(len, edges.values()))} imports, {len(circles(edges))} circles")
    assert circles(edges) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("module", [module for module in FILES if module != "finetuner"])
def test_imports_go_down(module):
    names = graph()[module] - {"finetuner"}
    assert not [name for name in names if layer_of(name) > layer_of(module)]


def test_backends_do_not_import_each_other():
    backends = ("pytorch", "keras", "paddle")
    for module, names in graph().items():
        for backend in backends:
            if module.startswith(f"finetuner.tuner.{backend}"):
                others = tuple(f"finetuner.tuner.{other}" for other in backends if other != backend)
                assert not [name for name in names if name.startswith(others)]


@pytest.mark.parametrize("module", FILES)
def test_every_file_says_what_lives_in_it(module):
    first = (ast.get_docstring(ast.parse(FILES[module].read_text())) or "").partition("\n")[0]
    assert first.endswith("."), first


@pytest.mark.parametrize("module", FILES)
def test_every_file_lists_its_public_names(module):
    nodes = ast.walk(ast.parse(FILES[module].read_text()))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert "__all__" in names or module == "finetuner.__main__"


@pytest.mark.parametrize("module", FILES)
def test_files_are_short(module):
    lines = len(FILES[module].read_text().splitlines())
    assert lines <= 400, lines
