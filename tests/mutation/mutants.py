"""Mutants of the library: every small change of a file, from the operators of mutmut and one of our own."""

import random
import warnings
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from finetuner import checks

SOURCES = (
    "finetuner/*.py",
    "finetuner/evaluation/**/*.py",
    "finetuner/data/**/*.py",
    "finetuner/cli/**/*.py",
    "finetuner/tuner/base/**/*.py",
    "finetuner/tuner/pytorch/**/*.py",
)
# Text for people, not behaviour.
MESSAGES = ("warn", "print", "secho", "echo", "Option", "Argument", "rule")
# Functions whose first argument is what a message calls another one.
CHECKS = {name for name, value in vars(checks).items() if callable(value)} | {"to_float_array", "from_container"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: str
    line: int
    run: int  # a line that runs when the change counts; 0 for code that runs at the import
    before: str
    after: str
    code: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


class Finder(cst.CSTVisitor):
    """Collects (node, changed node, line) of a module, without annotations, docstrings and messages."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self):
        self.changes = []
        self.functions = []  # that the visit is in, from the outside
        self.names = set()  # what messages call an argument

    def on_leave(self, node):
        if self.functions and self.functions[-1] is node:
            self.functions.pop()

    def on_visit(self, node):
        if isinstance(node, cst.FunctionDef):
            self.functions.append(node)
        if isinstance(node, cst.Annotation | cst.Import | cst.ImportFrom | cst.Raise | cst.Assert):
            return False
        if isinstance(node, cst.Call) and called(node) in (*MESSAGES, "cast", "TypeVar"):
            return False
        if isinstance(node, cst.If) and getattr(node.test, "value", "") == "TYPE_CHECKING":
            return False
        if isinstance(node, cst.Assign) and getattr(node.targets[0].target, "value", "") == "__all__":
            return False
        if isinstance(node, cst.SimpleStatementLine) and isinstance(node.body[0], cst.Expr):
            statement = node.body[0].value
            if isinstance(statement, cst.SimpleString | cst.ConcatenatedString):
                return False
            if isinstance(statement, cst.Call) and called(statement) not in MESSAGES:
                self.add(node, node.with_changes(body=[cst.Pass()]))
        if isinstance(node, cst.Call) and node.args and (called(node) in CHECKS or called(node).startswith("check_")):
            self.names.add(node.args[0].value)
        if isinstance(node, cst.SimpleString) and (" " in node.value or node in self.names):
            return False  # prose
        if isinstance(node, cst.FormattedString):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for changed in operator(node):
                    if not (
                        isinstance(node, cst.Call)
                        and isinstance(changed, cst.Call)
                        and self.loses_a_name(node, changed)
                    ):
                        self.add(node, changed)
        return True

    def loses_a_name(self, node, changed):
        """Whether a call differs in what a message calls its argument, and in nothing else."""
        first = node.args[0].value if node.args else None
        kept = len(changed.args) == len(node.args)
        return kept and first in self.names and changed.args[0].value is not first

    def add(self, node, changed):
        line = self.get_metadata(PositionProvider, node).start.line
        self.changes.append((node, changed, line, self.line_that_runs(line)))

    def line_that_runs(self, line):
        """The line itself, or for a default or a decorator the first one of the function."""
        if not self.functions:
            return 0
        statements = [one for one in self.functions[-1].body.body if not is_text(one)]
        first = self.get_metadata(PositionProvider, statements[0]).start.line if statements else 0
        return max(line, first)


def is_text(statement):
    """Whether a statement is a docstring."""
    inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
    return isinstance(inner, cst.Expr) and isinstance(inner.value, cst.SimpleString)


def called(node):
    """The name of what a call calls, without what stands before it."""
    name = getattr(node.func, "attr", node.func)
    return name.value if isinstance(name, cst.Name) else ""


def changes_of(path, root="."):
    """The module of a file, and all changes of it: (node, changed node, its line, a line that runs)."""
    wrapper = MetadataWrapper(cst.parse_module((Path(root) / path).read_text()), unsafe_skip_copy=True)
    finder = Finder()
    wrapper.visit(finder)
    return wrapper.module, finder.changes


def compiles(code, path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, path, "exec")
    except SyntaxError:
        return False
    return True


def one_line(module, node):
    text = " ".join(module.code_for_node(node).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def draw(count, seed, root=".", sources=SOURCES):
    """``count`` mutants at random: a file in proportion to its lines, then one of its changes that compile."""
    paths = sorted({str(path.relative_to(root)) for glob in sources for path in Path(root).glob(glob)})
    sizes = [len((Path(root) / path).read_text().splitlines()) for path in paths]
    generator, files, chosen = random.Random(seed), {}, {}
    for _ in range(20 * count):
        if len(chosen) == count:
            break
        path = generator.choices(paths, sizes)[0]
        if path not in files:
            files[path] = changes_of(path, root)
        module, changes = files[path]
        if not changes:
            continue
        node, changed, line, run = generator.choice(changes)
        code = module.deep_replace(node, changed).code
        if code != module.code and compiles(code, path):
            chosen[Mutant(path, line, run, one_line(module, node), one_line(module, changed), code)] = None
    return list(chosen)
