"""The three backends are one library in three frameworks.

Losses and miners are one text: line for line the same, except for the framework's name and the name of a layer's method.
The other files have the same classes, functions, arguments and documentation. What a framework needs beyond that is
listed here with its reason, and nothing else may differ.
"""

import ast
import difflib
import re
import shutil
from pathlib import Path

import pytest

TUNER = Path(__file__).parents[1] / "finetuner" / "tuner"
WORDS = {"PyTorch": "FRAMEWORK", "PaddlePaddle": "FRAMEWORK", "Keras": "FRAMEWORK"}
WORDS |= {"PytorchTuner": "FrameworkTuner", "KerasTuner": "FrameworkTuner", "PaddleTuner": "FrameworkTuner"}
WORDS |= {
    f"{name}{kind}": f"Framework{kind}"
    for name in ("Pytorch", "Keras", "Paddle")
    for kind in ("Engine", "Framework", "Processes")
}
WORDS |= {"call": "forward"}  # the method of a layer
ONE_TEXT = ["losses/*.py", "miner.py", "comparison.py"]

# Names that a backend alone has.
OWN = {
    "pytorch": {
        "gradient_cache.embed_twice": "Keras' engines differentiate functions of the weights",
        "data.BatchesOrErrors": "Keras' workers are threads; Paddle's are new in each epoch",
        "data.BatchesOrErrors.__init__": "",
        "data.BatchesOrErrors.__len__": "",
        "data.BatchesOrErrors.__getitem__": "",
        "data.opened": "",
        "data.Keys": "workers that live for a whole fit",
        "data.Keys.__init__": "",
        "data.Keys.__iter__": "",
        "data.Keys.__len__": "",
        "data.seeded": "Keras' workers share the random numbers of the process",
        "engine.FrameworkEngine.embed_part": "Keras' step is TrainingModel, which calls the model",
        "engine.FrameworkEngine.refuse": "",
        "engine.FrameworkEngine.autocast": "Keras has policies",
        "engine.FrameworkEngine.move": "Keras places tensors itself",
        "engine.FrameworkEngine.set_parameters": "Keras' optimizers know their weights",
        "engine.FrameworkEngine.groups": "",
        "engine.FrameworkEngine.merge": "Keras' cache of gradients adds them up itself",
        "engine.skips_by_itself": "fused optimizers leave out a step on the device",
        "engine.loss_function": "Keras' step is TrainingModel, which calls the loss",
        "engine.check_finite": "Keras' step returns a loss that is not finite",
        "framework.compilation_disabled": "Keras' layers are called as they are",
        "framework.forward": "as embed_part",
        "framework.with_own_number": "Keras on torch takes the current device",
        "framework.FrameworkFramework.add_lora": "peft is for PyTorch",
        "framework.FrameworkFramework.lora_of": "",
        "framework.FrameworkFramework.base_digest": "",
        "framework.FrameworkFramework.merge_lora": "",
        "framework.saved_tensors": "",
        "models.plain_model": "compiled and distributed models",
        "models.plain_name": "",
        "optimizers.add_weights": "Keras makes new optimizers",
        "optimizers.check_scheduler": "Keras' schedules are a part of the optimizer",
        "optimizers.group_options": "",
        "optimizers.check_saved_state": "the others set their slots themselves",
        "optimizers.has_known_slots": "",
        "optimizers.same_kind": "",
        "optimizers.slots_after_a_step": "",
        "optimizers.shapes_of": "",
        "optimizers.optimizer_params": "Keras' optimizers know their weights",
        "optimizers.optimizer_covers": "",
        "optimizers.scale_gradients": "Keras' Update does what a step does with gradients",
        "optimizers.gradient_norm": "",
        "optimizers.values_of": "",
        "optimizers.decay_weights": "",
        "optimizers.tensors_and_numbers": "Keras' optimizers have a list of variables",
        "tile_triplets.TripletReduction.active_limits": "Paddle compares with all but extreme limits",
        "tile_triplets.TripletReduction.can_keep": "Paddle is slow at converting counts to a small type",
        "tile_triplets.TripletReduction.keep": "",
        "mined.first_place": "Paddle's argmin is fast",
        "functional.L2Normalize": "Paddle cannot differentiate a backward pass",
        "functional.L2Normalize.forward": "",
        "functional.L2Normalize.setup_context": "",
        "functional.L2Normalize.backward": "",
        "functional.both_sides": "branches stop the compilers of the others",
        "functional.squared_norms": "",
        "functional.near_pairs": "compilers do not know how many there are",
        "functional.refined_shape": "compilers of the others follow refine_near",
        "tile.Workspace": "Paddle has no out=",
        "tile.Workspace.__init__": "",
        "tile.Workspace.take": "",
        "tile.Workspace.reset": "",
        "tile.Workspace.give_away": "",
        "tile.Tile.empty": "",
        "tile.along": "Paddle is slow at implicit broadcasting",
        "parallel.Forward": "Paddle's DataParallel cannot be freed, so gradients are averaged after the backward pass",
        "parallel.Forward.__init__": "",
        "parallel.Forward.forward": "",
        "parallel.Parallel.wrap": "",
        "processes.host_group": "Paddle's groups send objects by the device",
        "processes.leave_processes": "Paddle leaves its group by itself",
        "tiles.TiledComparison.whole": "Paddle cannot differentiate a backward pass",
        "relations.Relations.by_class": "of tiles",
        "relations.Relations.is_symmetric": "",
        "relations.Relations.block": "",
        "relations.Relations.own_items": "",
        "relations.Relations.count": "",
        "blocks.grad_wrt_squared_distance": "Keras' blocks and tiles share it",
        "blocks.BlockSums": "Keras attaches the gradient by a product",
        "blocks.BlockSums.forward": "",
        "blocks.BlockSums.backward": "",
        "kernels.KnownGradient": "Keras' is gradients.known_gradient, which each engine has in its own way",
        "kernels.KnownGradient.forward": "",
        "kernels.KnownGradient.backward": "",
        "kernels.KnownGradient.setup_context": "functions of functions, as torch.func has them",
        "models.layers_in_evaluation_mode": "Keras' layers have no mode of their own",
        "models.evaluation_mode": "",
        "kernels.PaddedIndices": "Keras loops over positives instead",
        "kernels.pad_mask_indices": "",
        "kernels.positive_chunks": "",
        "kernels.count_by_comparison": "",
        "kernels.count_by_search": "",
        "gradient_cache.mutable_buffers": "",
        "gradient_cache.restore_buffers": "",
        "data.identity": "Keras' workers are threads, which need no conversion",
        "surgery.check_optimizer_covers_poolers": "Keras' optimizers get the weights in their first step",
        "models.frozen_layers": "Keras' layers have no mode of their own",
        "frozen.is_chain": "Keras' models are graphs",
        "frozen.layers_of_chain": "",
    },
    "keras": {
        "engine.FrameworkEngine.add_unfrozen": "an optimizer for each group",
        "engine.FrameworkEngine.bad_weights": "Keras' own step keeps no gradients",
        "engine.FrameworkEngine.build_optimizers": "Keras' optimizers are built with the weights",
        "engine.FrameworkEngine.group_of": "",
        "layers.WeightedLoss.create_generator": "",
        "models.loss_path": "paths depend on what else the process has created",
        "optimizers.OptimizerGroups.add": "",
        "optimizers.OptimizerGroups.assign_rates": "",
        "optimizers.OptimizerGroups.build": "",
        "optimizers.OptimizerGroups.built": "",
        "optimizers.OptimizerGroups.current_rates": "",
        "optimizers.OptimizerGroups.set_rates": "",
        "optimizers.as_variable": "",
        "optimizers.check_instance": "Keras has optimizers that wrap others",
        "optimizers.has_schedule": "Keras' schedules are a part of the optimizer",
        "gradient_cache.GradientCache.gradients": "",
        "gradient_cache.GradientCache.of_batch": "",
        "gradient_cache.GradientCache.of_parts": "",
        "gradient_cache.GradientCache.keep": "",
        "gradient_cache.GradientCache.batch_loss_and_gradients": "",
        "engine.FrameworkEngine.step": "Keras compiles a whole step",
        "engine.FrameworkEngine.whole_step": "",
        "engine.FrameworkEngine.accumulate": "",
        "engine.FrameworkEngine.check": "",
        "engine.FrameworkEngine.join_processes": "Keras has strategies and devices",
        "framework.FrameworkFramework.predict": "on one device or several",
        "framework.FrameworkFramework.check_pooling": "several processes of JAX cannot",
        "models.in_precision": "Keras has a policy for each layer",
        "gradient_cache.GradientCache.mean": "",
        "gradient_cache.seed_variables": "layers have generators of their own",
        "gradient_cache.seed_torch": "",
        "engine.FrameworkEngine.forget_functions": "what was compiled depends on weights and optimizers",
        "engine.FrameworkEngine.compile_for": "",
        "engine.FrameworkEngine.freeze": "a group that is frozen is not applied",
        "gradient_cache.seed_engine": "Keras' own function imports too much",
        "framework.FrameworkFramework.on_device": "a context, where others move tensors",
        "framework.FrameworkFramework.embedder": "Keras compiles a model to embed",
        "framework.assign": "weights and slots",
        "models.TrainingModel.train_step": "a step that is not finite changes nothing",
        "models.as_float32": "",
        "models.check_config": "Keras' models are opened from a description",
        "optimizers.OptimizerGroups": "an optimizer for each group",
        "optimizers.OptimizerGroups.__init__": "",
        "optimizers.OptimizerGroups.public": "",
        "optimizers.OptimizerGroups.class_name": "",
        "optimizers.OptimizerGroups.variables": "",
        "optimizers.Update": "a part of Keras' own step",
        "optimizers.Update.__init__": "",
        "optimizers.Update.build": "",
        "optimizers.Update.variables": "",
        "optimizers.Update.scale_loss": "",
        "optimizers.Update.apply": "",
        "optimizers.if_finite": "",
        "gradient_cache.GradientCache": "functions of the weights, which each engine differentiates and compiles",
        "gradient_cache.GradientCache.__init__": "",
        "gradient_cache.GradientCache.update": "",
        "gradient_cache.GradientCache.variables": "",
        "gradient_cache.GradientCache.embed_part": "",
        "gradient_cache.GradientCache.loss_and_gradients": "",
        "gradient_cache.GradientCache.accumulate_gradients": "",
        "gradient_cache.total_loss": "layers may add to the loss",
        "gradient_cache.compiled": "",
        "gradient_cache.without_graph": "",
        "blocks.block_start": "compilers need blocks of one size",
        "blocks.block_size": "",
        "blocks.sum_blocks": "others have a class with a backward method",
        "blocks.sum_tiles_or_blocks": "",
        "blocks.sum_both_ways": "",
        "blocks.known_sums": "",
        "blocks.attach": "",
        "blocks.suits_tiles": "tiles are of classes",
        "blocks.has_triplets": "",
        "kernels.row_values": "as gradients.known_gradient",
        "kernels.loop_over_positives": "a loop of open length, whose shapes no compiler has to know",
        "kernels.loop_over_padded_positives": "",
        "kernels.column_mask": "",
        "kernels.take_column": "",
        "kernels.count_true": "",
        "ops.counted": "engines do not sum booleans",
        "poolers.Pooler.get_config": "Keras' saved files",
        "static.StaticEmbedding.get_config": "",
        "adapters.Adapter.get_config": "",
        "adapters.AdaptedModel.build": "Keras builds layers at their first call",
        "heads.Head.get_config": "",
        "heads.Head.build": "Keras would call the head to find out that there is nothing to build",
        "poolers.to_channels_last": "Keras has two layouts",
        "surgery.PooledLayer.build": "Keras would call the pooler to find out that there is nothing to build",
        "surgery.PooledLayer.compute_output_shape": "used by Keras' layers around others",
        "surgery.PooledLayer.compute_output_spec": "",
        "framework.FrameworkFramework.is_built": "weights are created in the first forward pass",
        "surgery.is_pooling": "a graph is searched for them",
        "surgery.only_paths": "functional models are graphs",
        "surgery.only_operations": "",
        "surgery.overrides_call": "",
        "surgery.put_back": "a rebuilt model is another one",
        "surgery.forget_compiled": "",
        "surgery.layers_of": "Keras has no list of the layers inside layers",
        "surgery.inner_layers": "",
        "surgery.rebuild": "functional models are graphs",
        "surgery.replace_sublayer": "Keras tracks its layers, those in lists too",
        "data.prefetch": "threads prepare batches, as in Keras' own training",
        "models.TwoTower.build": "Keras' models say how they are built",
        "models.uses_global_seed": "setting TensorFlow's seed is expensive",
        "models.TrainingModel": "the model that Keras' own step trains",
        "models.TrainingModel.__init__": "",
        "models.TrainingModel.build": "",
        "models.TrainingModel.forward": "",
        "models.TrainingModel.compute_loss": "",
        "models.TrainingModel.batch_loss": "",
        "models.TrainingModel.current_logs": "",
        "models.batch_length": "",
        "models.TrainingModel.call_in_training": "Keras' layers get the mode as an argument",
        "models.named_variables": "weights that are frozen have names, too",
        "frozen.as_function": "functional models are graphs",
        "frozen.split_function": "",
        "frozen.last_cut": "",
        "frozen.first_obstacle": "",
    },
    "paddle": {
        "ops.refuse_second_derivatives": "a backward pass cannot be differentiated",
        "blocks.FirstDerivative": "",
        "blocks.FirstDerivative.forward": "",
        "blocks.FirstDerivative.backward": "",
        "blocks.reduce_tiles": "one of its compilers must not look into tiles",
        "parallel.Parallel.messages": "what DataParallel does in PyTorch",
        "parallel.Parallel.warn_of_unused": "",
        "processes.reduced": "gloo has not all types",
        "processes.sent_as": "",
        "processes.start_barrier": "Paddle's gloo waits for 30 seconds",
        "functional.is_near": "its compiler needs a loop where there is none in eager mode",
        "functional.refine_near_": "Paddle cannot write to no place, which near_pairs may be",
        "functional.row_squares": "",
        "listed.ListedInputs": "Paddle looks for tensors in tuples of arguments",
        "listed.row_differences": "Paddle is slow at implicit broadcasting",
        "tile.Tile.extremes": "comparisons are slow",
        "tile_triplets.TripletReduction.extremes_of_limits": "",
        "tile_triplets.TripletReduction.above": "",
        "tile.Tile.along": "Paddle is slow at implicit broadcasting",
        "tile.Tile.sums": "products are faster than its sums",
        "tile_triplets.LimitReduction.gap": "there are no operations with out=",
        "tile.is_positive_": "booleans are slow",
        "tiles.TileInputs": "as ListedInputs",
        "ops.on_cpu": "the compiler cannot follow it",
        "ops.comparable": "small integers cannot be compared",
        "gradient_cache.embed_twice": "as in PyTorch",
        "data.seeded": "",
        "engine.FrameworkEngine.embed_part": "as in PyTorch",
        "engine.FrameworkEngine.refuse": "",
        "engine.FrameworkEngine.autocast": "",
        "engine.FrameworkEngine.move": "",
        "engine.FrameworkEngine.set_parameters": "",
        "engine.FrameworkEngine.groups": "",
        "engine.FrameworkEngine.compile": "to_static does not notice when other weights are trained",
        "engine.loss_function": "as in PyTorch",
        "engine.check_finite": "",
        "framework.compilation_disabled": "as in PyTorch",
        "framework.forward": "",
        "models.plain_model": "",
        "optimizers.slot_name": "the names of slots depend on what else the process has created",
        "optimizers.params_by_position": "",
        "optimizers.create_slots": "slots exist only after the first step",
        "optimizers.load_slots": "",
        "optimizers.optimizer_groups": "its own groups change the weights for good",
        "optimizers.take_step": "the rate of a group is read from the weight",
        "optimizers.add_weights": "as in PyTorch",
        "optimizers.check_scheduler": "",
        "optimizers.optimizer_params": "",
        "optimizers.optimizer_covers": "",
        "optimizers.scale_gradients": "",
        "optimizers.gradient_norm": "",
        "optimizers.values_of": "",
        "optimizers.decay_weights": "",
        "optimizers.tensors_and_numbers": "",
        "blocks.BlockSums": "as in PyTorch",
        "blocks.BlockSums.forward": "",
        "blocks.BlockSums.backward": "",
        "blocks.BlockInputs": "Paddle looks for tensors in tuples of arguments",
        "blocks.as_leaf": "its tensors stop gradients by an attribute",
        "kernels.PaddedIndices": "as in PyTorch",
        "kernels.pad_mask_indices": "",
        "kernels.positive_chunks": "",
        "kernels.count_by_comparison": "",
        "kernels.count_by_search": "",
        "ops.broadcast_pairs": "Paddle is slow at implicit broadcasting",
        "layers.Loss.__init_subclass__": "its compiler translates Python that looks at shapes",
        "data.OpaqueBatch": "the loader converts what workers return",
        "data.OpaqueBatch.__init__": "",
        "data.OpaqueBatch.open": "",
        "data.OpaqueBatches": "",
        "data.OpaqueBatches.__init__": "",
        "data.OpaqueBatches.__len__": "",
        "data.OpaqueBatches.__getitem__": "",
        "data.identity": "as in PyTorch",
        "gradient_cache.mutable_buffers": "",
        "gradient_cache.restore_buffers": "",
        "models.plain_forward": "the signature of a compiled model is hidden",
        "surgery.check_optimizer_covers_poolers": "as in PyTorch",
        "models.frozen_layers": "",
        "frozen.is_chain": "",
        "frozen.layers_of_chain": "",
    },
}
# Files that a backend alone has.
FILES = {
    # Models of transformers, and peft; Paddle cannot differentiate a backward pass and is slow at small operations.
    "pytorch": {"text", "vision", "lora", "frozen_graph", "frozen_text", "tile_second_derivatives", "bands"},
    # Keras' configs, compile and fit; what keras.ops does not have; PyTorch's optimizers; models of KerasHub.
    # Its tiles are of rows in the order of their classes, since a compiler has to know the number of positives. Devices of
    # JAX, and Keras' own processes.
    "keras": {"interop", "gradients", "named_optimizers", "sampled", "text", "devices", "on_devices", "processes"}
    | {"listed", "sorted_rows", "tile_reductions", "tiles", "tiling"},
    "paddle": {"_import_paddle"},  # after TensorFlow
}
# Files that Keras has not, or not alike: its processes are those of two engines.
TILES = {
    "parallel",
    "processes",
    "exclusions",
    "listed",
    "mined",
    "tile",
    "tile_distances",
    "tile_gradients",
    "tile_reductions",
    "tile_triplets",
    "tiles",
}
# Names whose arguments or documentation depend on the framework.
DIFFERENT = {
    "__init__": "by the first line",
    "gradient_cache.random_state": "Keras' layers have generators of their own",
    "gradient_cache.set_random_state": "",
    "kernels.KnownGradient": "Paddle cannot differentiate a backward pass",
    "kernels.KnownGradient.forward": "",
    "framework.resolve_device": "by what several processes of a machine do",
    "data.convert_dataset": "by what the framework's own datasets are",
    "data.load_batches": "by what workers are",
    "data.to_device": "Keras places tensors itself",
    "data.identity": "by what a batch is wrapped in",
    "models": "Keras has a TrainingModel",
    "models.TwoTower.forward": "Keras passes the mode as an argument",
    "models.call_model": "",
    "adapters.AdaptedModel.forward": "",
    "engine.loss_function": "PyTorch's own losses need int64 classes",
    "surgery.PooledLayer.__init__": "by the layouts there are",
    "surgery.PooledLayer.forward": "Keras' layers have masks",
    "surgery.replace_pooling": "by whether the model is changed in place",
    "surgery.replace_layer": "",
    "surgery.find_pooling": "Keras' graphs tell more",
    "framework": "by how the framework is called",
    "framework.copy_to_host": "by how a framework knows its weights",
    "models.plain_model": "by what wraps a model",
    "models.named_weights": "by how a framework knows its weights",
    "optimizers": "by how the framework is called",
    "optimizers.create_optimizer": "Keras has an optimizer for each group",
    "optimizers.add_weights": "Paddle's optimizers know their groups",
    "optimizers.tensors_and_numbers": "by how slots are named",
    "layers.Component": "by what a framework saves",
    "functional.prepare_rows": "as L2Normalize",
    "blocks.reduce_rows": "by when a batch is computed as a whole",
    "blocks.reduce_both_ways": "",
    "blocks.BlockSums.forward": "by how functions get what is not a tensor",
    "listed.ListedDistances.forward": "",
    "tiles.TileReductions.forward": "",
    "tile_distances.TileDistances.tile": "Paddle has no out=",
    "tile.Tile": "",
    "tile.Tile.__init__": "",
    "tile.Tile.keep": "",
    "tile_reductions.TileReduction.gradient": "Paddle's tiles on the diagonal are not symmetric to the last bit",
    "tile_triplets.TripletReduction.above": "Paddle compares with all but extreme limits",
    "ops.row_slice": "a compiler's number of rows is open in Keras",
    "parallel": "by whether gradients are averaged during the backward pass or after it",
    "parallel.Parallel": "",
    "parallel.Parallel.__call__": "",
    "parallel.Parallel.finish_step": "",
    "processes": "by the launcher",
    "processes.AcrossProcesses": "by the framework's own words",
    "kernels.triplets": "by how it counts",
    "kernels.soft_triplets": "",
    "kernels.soft_precision": "",
}


def translated(text):
    for word, common in WORDS.items():
        text = re.sub(rf"\b{word}\b", common, text)
    return text


def files_of(backend):
    return sorted(path.relative_to(TUNER / backend) for path in (TUNER / backend).rglob("*.py"))


def one_text_files(backend):
    return sorted(path.relative_to(TUNER / backend) for pattern in ONE_TEXT for path in (TUNER / backend).glob(pattern))


def names_of(backend, without=frozenset()):
    """Of each class and function, by its place: its arguments and its documentation."""
    found = {}

    def visit(node, prefix):
        found[prefix] = arguments(node), translated(ast.get_docstring(node) or "")
        for child in getattr(node, "body", []):
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not isinstance(node, ast.FunctionDef):
                visit(child, f"{prefix}.{translated(child.name)}")

    for path in files_of(backend):
        place = ".".join(path.with_suffix("").parts)
        if place not in FILES[backend] | without and path not in one_text_files(backend):
            visit(ast.parse((TUNER / backend / path).read_text()), place)
    return found


def arguments(node):
    if not isinstance(node, ast.FunctionDef):
        return []
    spec = node.args
    defaults = [ast.unparse(default) for default in spec.defaults]
    return [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)], defaults


@pytest.mark.parametrize("backend", ["keras", "paddle"])
def test_files(backend):
    ours, theirs = (set(map(str, files_of(name))) for name in ("pytorch", backend))
    alone = FILES["pytorch"] | (TILES if backend == "keras" else set())
    assert theirs - {f"{name}.py" for name in FILES[backend]} == ours - {f"{name}.py" for name in alone}


@pytest.mark.parametrize("backend", ["keras", "paddle"])
def test_losses_and_miners_are_one_text(backend):
    files = one_text_files("pytorch")
    assert len(files) >= 8
    assert one_text_files(backend) == files
    for path in files:
        ours, theirs = (translated((TUNER / name / path).read_text()).splitlines() for name in ("pytorch", backend))
        assert not list(difflib.unified_diff(ours, theirs, "pytorch", backend, lineterm="", n=0)), path


@pytest.mark.parametrize("backend", ["keras", "paddle"])
def test_names_arguments_and_documentation(backend):
    ours, theirs = names_of("pytorch", TILES if backend == "keras" else frozenset()), names_of(backend)
    assert theirs.keys() - ours.keys() == OWN[backend].keys() - ours.keys()
    assert ours.keys() - theirs.keys() == (OWN["pytorch"].keys() & ours.keys()) - theirs.keys()
    both = [name for name in ours if name in theirs]
    assert both == [name for name in theirs if name in ours], "their order"
    for name in both:
        if name not in DIFFERENT:
            assert theirs[name] == ours[name], name


@pytest.mark.parametrize("backend", ["pytorch", "keras", "paddle"])
def test_exceptions_exist(backend):
    found = names_of(backend)
    assert not [name for name in OWN[backend] if name not in found]
    assert not [name for name in DIFFERENT if name not in found and backend != "keras"]


@pytest.mark.parametrize(
    ("path", "test", "message"),
    [
        ("functional.py", test_names_arguments_and_documentation, r"functional\.reduce"),
        ("losses/triplet.py", test_losses_and_miners_are_one_text, r"triplet\.py"),
    ],
)
def test_a_difference_is_found(tmp_path, monkeypatch, path, test, message):
    for backend in ("pytorch", "keras"):
        shutil.copytree(TUNER / backend, tmp_path / backend)
    changed = tmp_path / "keras" / path
    text = changed.read_text().replace("reduction: str) ->", "how: str) ->").replace("number / 2 for", "number / 3 for")
    changed.write_text(text)
    monkeypatch.setattr("tests.test_alike.TUNER", tmp_path)
    with pytest.raises(AssertionError, match=message):
        test("keras")
