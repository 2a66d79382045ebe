"""The three subpackages are one text in three dialects: files, classes, functions, arguments, documentation.

What a framework has to have of its own is listed here with its reason, and nothing else may differ.
"""

import ast
import re
import shutil
from pathlib import Path

import pytest

TUNER = Path(__file__).parents[1] / "finetuner" / "tuner"
WORDS = {"PyTorch": "FRAMEWORK", "PaddlePaddle": "FRAMEWORK", "Keras": "FRAMEWORK"}
WORDS |= {"PytorchTuner": "FrameworkTuner", "KerasTuner": "FrameworkTuner", "PaddleTuner": "FrameworkTuner"}
WORDS |= {"call": "forward", "to_arrays": "to_device", "dim": "axis"}  # a layer's method; Keras places by itself

# Names that a subpackage alone has.
OWN = {
    "pytorch": {
        "blocks.Sums": "Keras' gradient is carried by a product",
        "blocks.Sums.forward": "",
        "blocks.Sums.backward": "",
        "kernels.Listed": "see Keras' loop over positives",
        "kernels.listed": "",
        "kernels.by_a_few": "",
        "kernels.compared": "Keras compares however many positives there are",
        "kernels.searched": "",
        "caching.embed_in_parts": "Keras' engines differentiate functions of the weights, and change no model in them",
        "caching.running": "",
        "caching.put_back": "",
        "tuner.FrameworkTuner.of_part": "Keras' step is Trained, and calls the model",
        "tuner.FrameworkTuner.forward": "",
        "data.as_it_is": "Keras' workers are threads, which hand over what they have",
        "tuner.check_finite": "Keras' step ends in a loss that is not finite",
        "replacement.check_held": "Keras' optimizers take the weights over when they first see them",
        "losses.interface.exact": "layers of Keras have types of their own, whatever the policy",
        "tuner.holds": "Keras' optimizers take their weights when they are built",
        "tuner.held_by": "",
        "tuner.objective": "Keras' step is Trained, and calls the loss",
    },
    "keras": {
        "caching.Cached": "functions of the weights, which each engine differentiates and compiles in its way",
        "caching.Cached.__init__": "",
        "caching.Cached.step": "",
        "caching.Cached.update": "",
        "caching.Cached.variables": "",
        "caching.Cached.embedded": "",
        "caching.Cached.judged": "",
        "caching.Cached.replayed": "",
        "caching.total_of": "layers add to the loss",
        "caching.compiled": "",
        "caching.without_graph": "",
        "blocks.start_of": "compilers have blocks of one size alone",
        "blocks.size_of_blocks": "",
        "blocks.summed": "a carrier, where others have classes of functions",
        "kernels.over_positives": "a loop of open length, whose shapes no compiler has to guess",
        "kernels.over_listed": "",
        "kernels.here": "",
        "kernels.at": "",
        "kernels.counted": "",
        "losses.margins.MarginLoss.get_config": "Keras' saved files",
        "losses.rows.DistillationLoss.get_config": "",
        "poolers.Pooler.get_config": "Keras' files are made of arguments",
        "poolers.with_channels_last": "Keras has two layouts",
        "replacement.InPlace.build": "Keras would call the pooler to find out that there is nothing to build",
        "replacement.InPlace.compute_output_shape": "asked for by Keras' layers around others",
        "replacement.InPlace.compute_output_spec": "",
        "replacement.layers_of": "Keras tells no order of the layers inside layers",
        "replacement.inner_layers": "",
        "replacement.built_anew": "functional models are graphs",
        "replacement.put": "Keras tracks its layers, those in lists too",
        "data.ahead": "threads prepare batches, as Keras' own do",
        "data.Sampled": "samplers go into PyTorch's and Paddle's loaders as they are",
        "data.Sampled.__init__": "",
        "data.Sampled.planned": "",
        "data.Sampled.__len__": "",
        "data.Sampled.__getitem__": "",
        "data.Sampled.on_epoch_end": "",
        "models.Towers.build": "Keras' models say how they are built",
        "models.draws_by_itself": "TensorFlow's seed is not to be had for nothing",
        "models.Trained": "what Keras' own step trains",
        "models.Trained.__init__": "",
        "models.Trained.build": "",
        "models.Trained.forward": "",
        "models.Trained.compute_loss": "",
        "models.Trained.loss_of": "",
        "models.Trained.told": "",
        "models.leading": "of inputs that Keras' own step hands on",
        "tuner.FrameworkTuner.whole_optimizer": "one step has both optimizers",
        "tuner.FrameworkTuner.trained": "see Trained",
        "tuner.FrameworkTuner.cached": "see Cached",
        "tuner.FrameworkTuner.judge": "a loss by itself is not compiled, and TensorFlow traces it anew each time",
        "tuner.FrameworkTuner.on_device": "a context, where others move tensors",
        "tuner.FrameworkTuner.trained_variables": "a step that went wrong is undone",
        "tuner.seed_engine": "Keras' own imports too much",
        "tuner.assign": "weights, slots and a step that is undone",
    },
    "paddle": {
        "blocks.Sums": "as in PyTorch",
        "blocks.Sums.forward": "",
        "blocks.Sums.backward": "",
        "kernels.Listed": "",
        "kernels.listed": "",
        "kernels.by_a_few": "",
        "kernels.compared": "",
        "kernels.searched": "",
        "functional.all_pairs": "Paddle is slow where it broadcasts, and at sums of rows",
        "functional.row_sums": "",
        "blocks.Given": "Paddle looks for tensors in tuples of arguments",
        "blocks.leaf": "its tensors stop gradients by an attribute",
        "functional.where": "Paddle's makes float32 of numbers",
        "functional.detached": "compiled, Paddle's shares memory that another operation may overwrite",
        "data.Sealed": "the loader looks into what workers hand it",
        "data.Sealed.__init__": "",
        "data.Sealed.open": "",
        "data.Sealing": "",
        "data.Sealing.__init__": "",
        "data.Sealing.__len__": "",
        "data.Sealing.__getitem__": "",
        "data.Sealing.batch_or_error": "",
        "data.as_it_is": "as in PyTorch",
        "caching.embed_in_parts": "as in PyTorch",
        "caching.running": "",
        "caching.put_back": "",
        "tuner.FrameworkTuner.of_part": "as in PyTorch",
        "tuner.FrameworkTuner.forward": "",
        "tuner.FrameworkTuner.place_of": "names depend on what else the process has made",
        "tuner.FrameworkTuner.by_place": "",
        "tuner.FrameworkTuner.make_slots": "the optimizer makes them in its first step",
        "tuner.check_finite": "as in PyTorch",
        "tuner.holds": "as in PyTorch",
        "tuner.held_by": "",
        "tuner.objective": "as in PyTorch",
        "models.plain_forward": "a compiled model's tells no arguments",
        "replacement.check_held": "as in PyTorch",
    },
}
# Files that a subpackage alone has.
FILES = {
    "pytorch": set(),
    "keras": {"interop", "gradients"},  # Keras' configs and its `compile`; what keras.ops has no word for
    "paddle": {"loading"},  # after TensorFlow
}
# Names whose arguments or documentation say something of the framework.
DIFFERENT = {
    "caching.random_state": "of Keras' engines only PyTorch has generators beside the layers'",
    "caching.set_random_state": "likewise",
    "data.as_pairs": "by what the framework's own datasets are",
    "data.load_batches": "by what workers are",
    "data.to_device": "by what becomes of tensors",
    "models": "by Keras' Trained",
    "models.Towers.forward": "by Keras' training",
    "models.called": "by Keras' training",
    "data.as_it_is": "by what a batch is wrapped in",
    "tuner.objective": "by how wide the framework's own losses want classes",
    "replacement.InPlace.__init__": "by the layouts there are",
    "replacement.InPlace.forward": "Keras' layers heed masks",
    "replacement.replace_pooling": "by whether the model is changed in place",
    "tuner.copied": "by how a framework knows its weights",
    "functional": "by the module's first line",
    "blocks": "",
    "blocks.in_blocks": "by when a batch is seen as a whole",
    "blocks.Sums.forward": "by how functions are given what is no tensor",
    "functional.block_of": "a compiler's numbers of rows are open in Keras",
    "kernels.triplets": "by how it counts",
    "kernels.soft_triplets": "",
    "kernels.soft_precision": "",
}


def translated(text):
    for word, common in WORDS.items():
        text = re.sub(rf"\b{word}\b", common, text)
    return text


def names_of(backend):
    """Of each class and function, by its place: its arguments and its documentation."""
    found = {}

    def visit(node, prefix):
        found[prefix] = arguments(node), translated(ast.get_docstring(node) or "")
        for child in getattr(node, "body", []):
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not isinstance(node, ast.FunctionDef):
                visit(child, f"{prefix}.{translated(child.name)}")

    for path in files_of(backend):
        place = ".".join(path.with_suffix("").parts)
        if place not in FILES[backend]:
            visit(ast.parse((TUNER / backend / path).read_text()), place)
    return found


def files_of(backend):
    return sorted(path.relative_to(TUNER / backend) for path in (TUNER / backend).rglob("*.py"))


def arguments(node):
    if not isinstance(node, ast.FunctionDef):
        return []
    spec = node.args
    defaults = [ast.unparse(default) for default in spec.defaults]
    return [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)], defaults


@pytest.mark.parametrize("backend", ["keras", "paddle"])
def test_files(backend):
    ours, theirs = (set(map(str, files_of(name))) for name in ("pytorch", backend))
    assert theirs - {f"{name}.py" for name in FILES[backend]} == ours


@pytest.mark.parametrize("one", ["keras", "paddle"])
def test_names_arguments_and_documentation(one):
    ours, theirs = names_of("pytorch"), names_of(one)
    assert theirs.keys() - ours.keys() == OWN[one].keys() - ours.keys()
    assert ours.keys() - theirs.keys() == OWN["pytorch"].keys() - theirs.keys()
    both = [name for name in ours if name in theirs]
    assert both == [name for name in theirs if name in ours], "their order"
    for name in both:
        if name not in DIFFERENT:
            assert theirs[name] == ours[name], name


@pytest.mark.parametrize("backend", ["pytorch", "keras", "paddle"])
def test_what_is_listed_is_there(backend):
    found = names_of(backend)
    assert not [name for name in OWN[backend] if name not in found]
    assert not [name for name in DIFFERENT if name not in found and backend != "keras"]


def test_a_difference_is_seen(tmp_path, monkeypatch):
    for backend in ("pytorch", "keras"):
        shutil.copytree(TUNER / backend, tmp_path / backend)
    changed = tmp_path / "keras" / "functional.py"
    changed.write_text(changed.read_text().replace("reduction: str) ->", "how: str) ->"))
    monkeypatch.setattr("tests.test_alike.TUNER", tmp_path)
    with pytest.raises(AssertionError, match=r"functional\.reduce"):
        test_names_arguments_and_documentation("keras")
