"""What is imported when: frameworks and heavy libraries only once they are needed."""

import subprocess
import sys

import pytest

FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "paddle"}
HEAVY = {"faiss", "sklearn", "matplotlib", "datasets", "PIL", "umap", "transformers", "pandas", "scipy"}


def loaded_by(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ["finetuner", "finetuner.tuner.base", "finetuner.api", "finetuner.data"])
def test_base_loads_no_framework(module):
    assert not (FRAMEWORKS | HEAVY) & loaded_by(f"import {module}")


def test_importing_finetuner_loads_little():
    assert not {"rich", "typer", "numpy"} & loaded_by("import finetuner")


def test_datasets_are_had_without_a_framework():
    code = "import finetuner; finetuner.ClassDataset([1, 2], [0, 1]); finetuner.fit; dir(finetuner)"
    assert not (FRAMEWORKS | HEAVY) & loaded_by(code)


def test_a_backend_loads_its_framework_alone(backend):
    loaded = loaded_by(f"import finetuner.tuner.{backend.name}")
    assert backend.framework in loaded
    assert not (FRAMEWORKS - {backend.framework} - backend.engines) & loaded


def test_unknown_name():
    import finetuner

    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        finetuner.fitt  # noqa: B018
