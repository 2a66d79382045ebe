"""ONNX and the format of Paddle Inference, for models of PaddlePaddle."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...tuner.base.training.encoder import Encoder
from ...tuner.base.training.framework import accepts_keywords
from .inputs import OUTPUT, Example, Run, batches_of, example_of, import_libraries, onnx_runner, quiet, write_tokenizer

__all__ = ["write_onnx", "write_paddle_inference"]

OPSET = 17
NAME = "model"  # of the files in the folder of an inference model


def write_onnx(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write one ONNX file. Its inputs have the names of the model's, and its output is ``sentence_embedding``."""
    import_libraries("onnx-paddle", "onnx", "paddle2onnx", "onnxruntime")
    import onnx

    example = example_of(encoder, sample)
    folder = path.with_name(f"{path.name}.inference")
    save(encoder, example, folder)
    convert(folder, path)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    rename_output(onnx, path)
    write_tokenizer(encoder, path.parent)
    return onnx_runner(encoder, example, path)


def convert(folder: Path, path: Path) -> None:
    """Convert an inference model to ONNX, in a process of its own: paddle2onnx aborts its process if it cannot."""
    files = [str(folder / f"{NAME}{suffix}") for suffix in (".json", ".pdiparams")]
    # Its default tool would install packages by itself.
    code = f"import paddle2onnx; paddle2onnx.export(*{files!r}, {str(path)!r}, {OPSET}, optimize_tool='None')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode or not path.is_file():
        text = " ".join((done.stdout + done.stderr).replace("[Paddle2ONNX]", "").split())
        reason = text.partition("-----")[0].partition("Start parsing the Paddle model file...")[2] or text[-300:]
        raise ValueError(f"paddle2onnx cannot convert this model: {reason.strip():.300}")


def rename_output(onnx: Any, path: Path) -> None:
    """Call the only output of an ONNX file ``sentence_embedding``."""
    model = onnx.load(str(path))
    old = model.graph.output[0].name
    model.graph.output[0].name = OUTPUT
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = OUTPUT
    onnx.save(model, str(path))


def write_paddle_inference(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write the folder of an inference model: ``model.json`` and ``model.pdiparams``, for ``paddle.inference``."""
    from paddle import inference

    example = example_of(encoder, sample)
    save(encoder, example, path)
    write_tokenizer(encoder, path)
    config = inference.Config(*(str(path / f"{NAME}{suffix}") for suffix in (".json", ".pdiparams")))
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    known = set(predictor.get_input_names())

    def run(items: Any) -> np.ndarray:
        parts = []
        for arrays in batches_of(encoder, example, items, path):
            for name, array in zip(example.names, arrays, strict=True):
                if name in known:
                    predictor.get_input_handle(name).copy_from_cpu(array)
            predictor.run()
            parts.append(predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu())
        return np.concatenate(parts)

    return run


def save(encoder: Encoder, example: Example, folder: Path) -> None:
    """Write the files of an inference model into the new folder."""
    import paddle
    from paddle import nn
    from paddle.static import InputSpec

    from ...tuner.paddle.models import evaluation_mode, plain_forward, plain_model

    by_keywords = accepts_keywords(plain_forward(encoder.embed_model), dict.fromkeys(example.names))

    class Positional(nn.Layer):
        """The model with its inputs in order. Paddle needs an argument for each."""

        def __init__(self) -> None:
            super().__init__()
            self.model = plain_model(encoder.embed_model)

        def of_one(self, first: Any) -> Any:
            return self.embed([first])

        def of_two(self, first: Any, second: Any) -> Any:
            return self.embed([first, second])

        def of_three(self, first: Any, second: Any, third: Any) -> Any:
            return self.embed([first, second, third])

        def embed(self, tensors: list[Any]) -> Any:
            if not example.is_mapping:
                return self.model(tensors[0])
            inputs = dict(zip(example.names, tensors))  # noqa: B905 (Paddle converts zip to one without strict)
            if example.unknown is not None:
                known = (inputs["input_ids"] != example.unknown).astype(inputs["attention_mask"].dtype)
                inputs["attention_mask"] = inputs["attention_mask"] * known
            if by_keywords:
                return self.model(**inputs)
            return self.model(inputs)

    if len(example.names) > 3:
        raise ValueError(f"a Paddle model must have at most 3 inputs to be exported, got {len(example.names)}")
    layer = Positional()
    forward = (layer.of_one, layer.of_two, layer.of_three)[len(example.names) - 1]
    specs = [
        InputSpec(shape, str(array.dtype), name)
        for name, shape, array in zip(example.names, example.shapes(), example.arrays, strict=True)
    ]
    with quiet(), evaluation_mode(layer):
        layer.forward = paddle.jit.to_static(forward, input_spec=specs, full_graph=True)
        paddle.jit.save(layer, str(folder / NAME))
