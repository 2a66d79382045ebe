"""Encoder: a model with all that it needs to embed items. It knows no loss and no optimizer."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from .... import checks
from ....evaluation.evaluators import without_duplicates
from ....evaluation.retrieval import DEFAULT_METRICS, check_metrics, retrieval_metrics
from ....evaluation.sizes import check_sizes, first_components, metrics_by_size
from ....files import new_folder, read_json
from ....parts import Part, check_part
from ....quantization import check_dtype, check_part_dtype, quantize
from ..data.batches import ItemFunction, Prepare
from ..data.conversion import align_labels, as_dataset, as_unlabelled
from ..data.datasets import Dataset
from ..processes import ALONE, Processes
from ..registry import create, describe
from .embedding import blended
from .encoder_files import check_tensors, read_config, read_tensors, write_encoder
from .framework import Framework
from .lora import LoRASource, lora_source
from .model_source import ModelSource, export
from .row_embedding import EmbedsRows

__all__ = ["Encoder"]


class Encoder(EmbedsRows):
    """A model with preprocessing, collating, pooler, distance and device.

    :func:`finetuner.load` opens a saved one, and a trained run has it as ``run.encoder``.

    Args:
        model: The framework's model, from a batch of inputs to embeddings ``[N, D]``; or a pair of models, one per side
            of a pair.
        framework: The framework's models and data.
        distance: Of retrieval: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        pooler: Replaces the model's global pooling: a name, a class or an instance.
        pooler_options: Arguments of a pooler given by name or class.
        source: How :func:`finetuner.load_model` made the model; None for a model of the user.

    Attributes:
        model: The model as it was given, with the new pooler.
        embed_model: The model that returns embeddings; of a pair of models, one with two inputs.

    Raises:
        ValueError: For an unknown name, or a pooler for a model without a pooling layer.
        TypeError: For a model of another framework.

    Example:
        >>> encoder = train_a_model().encoder
        >>> encoder.embed(np.zeros((2, 8), np.float32)).shape
        (2, 8)
    """

    record: Mapping[str, Any] = MappingProxyType({})  # of its run: config and metrics, for the card of an export

    def __init__(
        self,
        model: Any,
        framework: Framework,
        *,
        distance: str = "cosine",
        preprocess_fn: Prepare = None,
        collate_fn: Prepare = None,
        pooler: Any = None,
        pooler_options: Any = None,
        source: ModelSource | None = None,
    ):
        self.framework, self.model, self.source = framework, model, source
        if isinstance(model, tuple | list):
            if len(model) != 2:
                raise TypeError(f"embed_model must be a model or a pair of models, got {len(model)}")
            model = framework.combine_towers(*map(framework.check_model, model))
        self.embed_model = framework.check_model(model)
        self.distance = checks.one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
        self.preprocess_fn, self.collate_fn = self.own_functions = preprocess_fn, collate_fn
        self.pooler = describe(pooler)
        if pooler is not None:
            pooler = create("pooler", pooler, framework.registry("pooler"), pooler_options)
            if isinstance(self.model, tuple | list):
                raise ValueError("pooler must be used with one model; replace the pooling of each of a pair by itself")
            self.model = self.embed_model = framework.replace_pooling(self.embed_model, pooler)
            self.pooler = describe(pooler)
        elif pooler_options:
            raise ValueError(f"pooler_options must be used with a pooler, got {dict(pooler_options)} and no pooler")
        if framework.lora_of(self.embed_model) is not None:
            self.source = lora_source(self, framework, source.base if isinstance(source, LoRASource) else source)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.embed_model).__name__} of {self.framework.name}, {self.distance})"

    def embed(
        self,
        x: Any,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
        side: int = 0,
        dim: int | None = None,
        dtype: str = "float32",
        calibration: Any = None,
        part: Part | None = None,
    ) -> np.ndarray:
        """Embed items with the model in evaluation mode.

        Items that differ in length, such as texts or lists of token ids, are sorted by length within windows of 64
        batches, so that little of a batch is padding.

        Args:
            x: Items (an array, a sequence, a mapping of arrays) or a dataset.
            preprocess_fn: A function from an item to a row of the model's input. The default is the encoder's own.
            collate_fn: A function from a list of (preprocessed) items to the model's input. The default is the
                encoder's own.
            batch_size: Items in a batch.
            num_workers: The number of processes (Keras: threads) that prepare batches; 0 for the main process.
            side: Which of a pair of functions or prompts serves the items: 0 for queries, 1 for passages.
            dim: The number of components to return, the first of each embedding, for a model that was trained with
                ``dims``. The default is all.
            dtype: ``"float32"``; or ``"int8"``, ``"uint8"``, ``"binary"`` or ``"ubinary"`` to save memory, see
                :func:`~finetuner.quantization.quantize`.
            calibration: Embeddings ``[M, dim]`` whose ranges ``"int8"`` and ``"uint8"`` use. The default is those that
                are returned.
            part: The number of a part, from 1, and the number of parts: ``(3, 8)`` embeds only the third of eight parts
                of the items, as one of eight processes with the same arguments. The parts in order are the bits of one
                process. :meth:`rows_of_part` says which items a part has.

        Returns:
            ``[N, D]`` float32, or another dtype, in the order of ``x``. A part without items is ``[0, D]``.

        Raises:
            ValueError: If there are no items, inputs or embeddings are not finite, ``dim`` is above D, ``part`` is out
                of its range, or a part is to be quantized by its own ranges.
            TypeError: If the model does not return ``[N, D]``, or ``part`` is not two integers.
        """
        self.preprocess_fn = preprocess_fn or self.preprocess_fn
        self.collate_fn = collate_fn or self.collate_fn
        dataset = as_unlabelled(self.framework.convert_dataset(x))
        if isinstance(self.model, tuple | list) and dataset.rows_per_item != 2:
            raise ValueError("a pair of models must be given a PairDataset, or each embed its own items by itself")
        side, dtype = checks.one_of("side", side, (0, 1)), check_dtype(dtype)
        dim = None if dim is None else checks.integer("dim", dim, 1)
        part = None if part is None else check_part(part)
        check_part_dtype(part, dtype, calibration)
        self.check_items(dataset)
        whole = self.embed_rows(dataset, np.arange(dataset.num_rows), batch_size, num_workers, side=side, part=part)
        embeddings = first_components(whole, dim)
        plain = dtype == "float32" and calibration is None
        return embeddings if plain else quantize(embeddings, dtype, calibration)

    def use_functions(self, preprocess_fn: Prepare, collate_fn: Prepare) -> None:
        """Prepare items with these functions; with the encoder's own for None."""
        own_preprocess, own_collate = self.own_functions
        self.preprocess_fn, self.collate_fn = preprocess_fn or own_preprocess, collate_fn or own_collate

    def check_items(self, dataset: Dataset) -> None:
        """Raise ``TypeError`` for items that a model of :func:`finetuner.load_model` cannot take."""
        if self.source is not None and self.source.check_items is not None and self.preprocess_fn is None:
            self.source.check_items(dataset.x)

    def evaluate(
        self,
        data: Any,
        index_data: Any = None,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        metrics: Iterable[str] | None = None,
        dims: Sequence[int] | None = None,
        exclude_duplicates: bool = False,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> dict[str, float]:
        """Metrics of the model: retrieval within ``data`` or in ``index_data``, or what else a dataset measures.

        Args:
            data: The queries: a dataset, ``(x, y)``, or the framework's own dataset of such pairs.
            index_data: What is searched. The default is ``data``, each item without itself.
            preprocess_fn: See :meth:`embed`.
            collate_fn: See :meth:`embed`.
            metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
            dims: Sizes of embeddings, such as ``(384, 128, 32)``, at most D. The metrics are computed for as many first
                components, and those of a part have names such as ``dim_128/hit@1``. The default is D alone.
            exclude_duplicates: Whether items with exactly the embedding of a query are left out of its search.
            batch_size: Items in a batch.
            num_workers: See :meth:`embed`.

        Returns:
            The metrics, by name.

        Raises:
            ValueError: For an unknown metric, data in which nothing can be retrieved or measured, a size that is above
                D, or duplicates to exclude from data that is not searched.
        """
        self.preprocess_fn = preprocess_fn or self.preprocess_fn
        self.collate_fn = collate_fn or self.collate_fn
        dims = None if dims is None else check_sizes("dims", dims)
        dataset = as_dataset(self.framework.convert_dataset(data))
        self.check_items(dataset)
        if index_data is None:
            evaluator = dataset.evaluator(metrics)
            if evaluator is None:
                raise ValueError(
                    f"data must have classes, pairs, triplets or relevance to be evaluated, got {dataset!r}"
                )
            if exclude_duplicates:
                evaluator = without_duplicates(evaluator)
            embeddings = self.embed_rows(
                dataset, dataset.evaluation_rows, batch_size, num_workers, (0,) if dataset.views > 1 else None
            )
            return metrics_by_size(lambda x: evaluator(x, self.distance), dims, embeddings)
        names = tuple(DEFAULT_METRICS if metrics is None else metrics)
        check_metrics(names)
        index = as_dataset(self.framework.convert_dataset(index_data), "index_data")
        self.check_items(index)
        return self.search_metrics(dataset, index, names, batch_size, num_workers, exclude_duplicates, dims)

    def search_metrics(
        self,
        queries: Dataset,
        index: Dataset,
        names: tuple[str, ...],
        batch_size: int = 256,
        num_workers: int = 0,
        exclude_duplicates: bool = False,
        dims: Sequence[int] | None = None,
        processes: Processes = ALONE,
    ) -> dict[str, float]:
        """Retrieval metrics of the items of ``queries``, searched in ``index``."""
        query_labels, index_labels = align_labels((queries, index))
        embeddings = [
            self.embed_rows(
                dataset, np.arange(dataset.num_rows), batch_size, num_workers, side=side, processes=processes
            )
            for side, dataset in enumerate((queries, index))
        ]

        def measure(of_queries: np.ndarray, of_index: np.ndarray) -> dict[str, float]:
            found = of_queries, query_labels, of_index, index_labels
            return retrieval_metrics(
                *found, metrics=names, distance=self.distance, exclude_duplicates=exclude_duplicates
            )

        return metrics_by_size(measure, dims, *embeddings)

    def state(self) -> dict[str, Any]:
        """A copy of the model's weights and buffers on the host, by name."""
        return self.framework.state(self.embed_model)

    def load_state(self, tensors: dict[str, Any]) -> None:
        """Set the weights that :meth:`state` returned; raise ``ValueError`` if they do not fit."""
        self.framework.load_state(self.embed_model, tensors)
        self.forget_origin()

    def add_lora(self, lora: Any, seed: int = 0) -> None:
        """Add LoRA to the model in place, see :meth:`~.framework.Framework.add_lora`."""
        if isinstance(self.model, tuple | list):
            raise ValueError("lora must be used with one model, got a pair of models")
        self.framework.add_lora(self.embed_model, lora, seed)
        if not isinstance(self.source, LoRASource):
            self.source = lora_source(self, self.framework, self.source)

    def forget_origin(self) -> None:
        """Called if the weights change: they are no longer those of the folder or the name that was opened."""
        if self.source is not None:
            self.source.origin = None

    def blend(self, base: Any, share: float = 0.5) -> "Encoder":
        r"""Move the model towards another one: :math:`w \leftarrow b + \alpha (w - b)`.

        A blend of a fine-tuned model with the model as it was keeps most of what was learned, and gives back most of
        what was forgotten.

        Args:
            base: b: an encoder of the same model, or the state of one.
            share: alpha, from 0 (the base) to 1 (this model as it is).

        Returns:
            This encoder.

        Raises:
            ValueError: If the weights are not those of the same model, or the share is out of its range.

        References:
            Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (WiSE-FT).
        """
        if not 0 <= checks.number("share", share) <= 1:
            raise ValueError(f"share must be from 0 to 1, got {share}")
        other = base.state() if isinstance(base, Encoder) else base
        self.load_state(blended(self.state(), other, share))
        return self

    def config(self) -> dict[str, Any]:
        """The settings of the encoder, as JSON can hold them."""
        model = type(self.embed_model)
        return {
            "backend": self.framework.name,
            "versions": {"python": platform.python_version(), **self.framework.versions()},
            "threads": self.framework.num_threads(),  # only the same number gives the same bits
            "device": str(self.framework.device),
            "model": f"{model.__module__}:{model.__qualname__}",
            "pooler": self.pooler,
            "distance": self.distance,
        }

    def save(self, path: str | Path) -> Path:
        """Write weights and settings into the new folder ``path``, which :func:`finetuner.load` opens.

        Raises:
            FileExistsError: If ``path`` exists and is not empty. Nothing is written then.
        """
        with new_folder(path) as folder:
            write_encoder(folder, self.framework, self.embed_model, self.source, self.config(), self.state())
        return Path(path)

    def export(self, path: str | Path, format: str | None = None, items: Any = None) -> float:
        """Write the encoder in the format of another tool, run what was written, and compare the embeddings.

        Args:
            path: Where to write: a file, or a folder for a format of folders. A tokenizer is written beside a file, or
                into a folder.
            format: ``"onnx"``; of text models ``"sentence-transformers"`` (a folder); of PyTorch ``"torch-export"``; of
                Keras on TensorFlow or JAX ``"saved-model"`` (a folder), on TensorFlow ``"litert"``; of Paddle
                ``"paddle-inference"`` (a folder). The default is that of the suffix of ``path``: ``.onnx``, ``.pt2``
                or ``.tflite``.
            items: Some items to compare the embeddings of. Models of texts need none.

        Returns:
            The largest difference between the embeddings of the export and those of the encoder.

        Raises:
            ValueError: If the model cannot be written in this format, or an embedding differs by more than 1e-4.
            FileExistsError: If there is something at ``path``.
            ImportError: If a library is missing. The message says how to install it.
        """
        return export(self, path, format, items)

    def load(self, path: str | Path) -> "Encoder":
        """Load the weights of a saved encoder or run. Nothing is changed if they do not fit.

        Raises:
            FileNotFoundError: If ``path`` is not the folder of a saved run.
            ValueError: If the run is of another framework, or its weights do not fit or are not finite.
        """
        path = Path(path)
        config = read_config(path, self.framework.name)
        if self.source is not None:
            self.source.check_folder(path)
        tensors = read_tensors(self.framework, path / "weights.safetensors")
        check_tensors(path / "weights.safetensors", tensors)
        try:
            self.load_state(tensors)
        except ValueError as error:
            line = str(error).strip().partition("\n")[0]
            raise ValueError(f"{path} cannot be loaded: {line}") from error
        metrics = path / "metrics.json"  # an encoder without a run has none
        self.record = {"config": config, "metrics": read_json(metrics, dict) if metrics.is_file() else {}}
        return self
