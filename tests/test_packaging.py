"""Files for users and maintainers agree with the package; what `tox -e release` builds works in an empty environment."""

import os
import re
import subprocess
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import finetuner

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / name).read_text()))


def padded(version: str) -> str:
    return ".".join([*version.split("."), "0", "0"][:3])


def test_the_lowest_versions_are_the_lower_bounds():
    extras = ("pytorch", "keras", "paddle", "data", "plot", "demo")
    requirements = [*PROJECT["dependencies"], *(r for extra in extras for r in PROJECT["optional-dependencies"][extra])]
    bounds = {(name, padded(bound)) for name, bound in (r.split(">=") for r in requirements)}
    lowest = pins("constraints-lowest.txt")
    assert bounds == {(name, lowest.get(name)) for name, _ in bounds}


def test_version_in_changelog_and_citation():
    version = re.escape(finetuner.__version__)
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_pre_commit_runs_the_pinned_ruff():
    ruff = pins("constraints.txt")["ruff"]
    assert f"ruff-pre-commit\n    rev: v{ruff}" in (ROOT / ".pre-commit-config.yaml").read_text()


@pytest.fixture(scope="module")
def dist():
    folder = os.environ.get("FINETUNER_DIST") or pytest.skip("FINETUNER_DIST is not set; run tox -e release")
    return Path(folder)


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob(f"finetuner-{finetuner.__version__}-py3-none-any.whl")
    return path


def test_the_wheel_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"finetuner-{finetuner.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"finetuner", info}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "finetuner").rglob("*.py")}
    assert {name for name in names if name.startswith("finetuner/")} == files | {"finetuner/py.typed"}
    assert f"{info}/licenses/LICENSE" in names


def test_the_sdist_holds_the_package(dist):
    with tarfile.open(dist / f"finetuner-{finetuner.__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "finetuner/__init__.py", "finetuner/py.typed"} <= names


def test_the_wheel_works_without_a_framework(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        result = subprocess.run(command, **options, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    run(python, "-m", "pip", "install", "--quiet", wheel)
    run(python, "-c", "import finetuner; finetuner.ClassDataset([[0.], [1.]], [0, 1])")
    assert run(tmp_path / "venv/bin/finetuner", "--version") == f"finetuner {finetuner.__version__}"
