"""Errors in the user's code and in checkpoints: one line with the file, the line and the cause."""

import re
import shutil
from pathlib import Path

import pytest

from finetuner.cli.terminal import error_line, error_message
from finetuner.cli.user_code import is_user_file, resolve_callable

from .commands import error, fit, folder, model  # noqa: F401  (folder and model are fixtures)

FILES = {
    "imports.py": "from os import path\nfrom os import nothing_like_this\n",
    "outer.py": "import inner_of_test\n",
    "inner_of_test.py": "import json\nimport not_installed_anywhere\n",
    "syntax.py": "def make():\n    return (1,\n",
    "outer_syntax.py": "import syntax_of_test\n",
    "syntax_of_test.py": "x = 1\nx = = 2\n",
    "nothing.py": "\ndef make():\n    3\n\ndef needs(size):\n    return size\n\ndef raises():\n    raise RuntimeError('one\\ntwo')\n",
    "collates.py": (
        "def raises(items):\n    return {}['missing']\n\ndef own(items):\n    raise ValueError('my message')\n\n"
        "class Two(Exception):\n    def __init__(self, a, b):\n        super().__init__(a + b)\n\n"
        "def two(items):\n    raise Two('x', 'y')\n"
    ),
}


@pytest.fixture
def files(folder):
    for name, text in FILES.items():
        Path(name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imports.py:make", r"ImportError: cannot import name 'nothing_like_this' from 'os'.* \(.*/imports.py:2\)"),
        ("outer.py:make", r"ModuleNotFoundError: No module named 'not_installed_anywhere' \(.*/inner_of_test.py:2\)"),
        ("syntax.py:make", r"SyntaxError: '\(' was never closed \([^()]*/syntax.py:2\)"),
        ("outer_syntax.py:make", r"SyntaxError: invalid syntax \([^()]*/syntax_of_test.py:2\)"),
        (
            "nothing.py:make",
            r"--model must name a function that returns a model, and .*returned None \(.*/nothing.py:2\)",
        ),
        ("nothing.py:needs", r"--model must name a function without arguments, .*'size' \(.*/nothing.py:5\)"),
        ("nothing.py:raises", r"RuntimeError: one \(.*/nothing.py:9\)"),
    ],
)
def test_models(files, spec, message):
    assert re.fullmatch(message, error(fit("none", "--model", spec, code=1)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"KeyError: 'missing' \(.*/collates.py:2\)"),
        ("own", r"ValueError: my message \(.*/collates.py:5\)"),
        ("two", r".*Two: xy \(.*/collates.py:12\)"),
    ],
)
def test_workers(model, files, backend, name, message, workers):
    line = error(fit(model, "--collate", f"collates.py:{name}", "--num-workers", workers, code=1))
    assert re.fullmatch(message, line)


@pytest.mark.parametrize(
    ("file", "content"),
    [("history.json", "{"), ("history.json", '[{"loss": "x"}]'), ("training.json", "[1]"), ("config.json", "")],
)
def test_damaged_checkpoints(model, folder, file, content):
    fit(model, "--checkpoint-every", "1 epoch")
    damaged = Path("run-checkpoints", "epoch-2", file)
    damaged.write_text(content)
    shutil.rmtree("run")
    line = error(fit(model, "--resume", "run-checkpoints", "--trust", "--epochs", 3, code=1))
    assert str(damaged) in line
    assert not Path("run").exists()


def test_files_of_libraries_are_not_the_users(tmp_path):
    resolve_callable("--collate", "json:loads")  # a module of Python stays one
    (tmp_path / "mine_of_test.py").write_text("def f():\n    import json\n    json.loads('{')\n")
    function = resolve_callable("--model", f"{tmp_path / 'mine_of_test.py'}:f")
    with pytest.raises(ValueError, match="Expecting property name") as caught:
        function()
    assert error_line(caught.value).endswith("mine_of_test.py:3)")  # and not in json
    assert is_user_file(str(tmp_path / "package" / "more.py"))
    assert not is_user_file(str(tmp_path / "lib" / "site-packages" / "more.py"))
    assert not is_user_file(re.__file__)
    assert not is_user_file("<string>")


def test_colours_of_a_message_are_removed():
    assert error_message(ValueError("\x1b[1mtoo \x1b[31;1mlarge\x1b[0m")) == "too large"
