"""Evaluation of embeddings in files, such as those of the parts that ``finetuner embed --part`` writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .embedding_readers import Embedded, files_at, read_embeddings
from .inputs import check_output
from .options import DATA, OTHER, option
from .parts import parse_part
from .sizes import print_sizes
from .terminal import print_json, print_message, print_metrics

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation import MetricSums

__all__ = [
    "OPTIONS",
    "Embeddings",
    "EvaluatePart",
    "IndexEmbeddings",
    "Sums",
    "SumsOutput",
    "check_data",
    "measure_embeddings",
    "print_measured",
    "read_sums",
]

Embeddings = Annotated[
    list[Path] | None,
    option(
        "--embeddings",
        DATA,
        "Files of `finetuner embed` with embeddings and labels, in place of --data and a model: .npz, .parquet or "
        ".jsonl. Several files: repeat it, or give a pattern such as 'part-*.npz'.",
        "PATH",
    ),
]
IndexEmbeddings = Annotated[
    list[Path] | None,
    option(
        "--index-embeddings",
        DATA,
        "Files of embeddings that are searched. Default: --embeddings, without the query itself.",
        "PATH",
    ),
]
Sums = Annotated[
    list[Path] | None,
    option("--sums", DATA, "Files that --part wrote, of all parts: they are added up to the metrics.", "PATH"),
]
EvaluatePart = Annotated[
    str | None,
    option(
        "--part",
        OTHER,
        "Measure only a part of the queries of --embeddings: 3/8 is the third of eight. The sums of the metrics are "
        "written to --output.",
        "NUMBER/PARTS",
    ),
]
SumsOutput = Annotated[Path | None, option("--output", OTHER, "New .json file for the sums of --part.", "FILE")]

# The options that describe a model and its data, which embeddings in files do not need.
OPTIONS_OF_DATA = (
    *("data", "index_data", "input_column", "image_column", "session_column", "role_column", "anchor_column"),
    *("positive_column", "negative_column", "score_column", "target_column", "query_column", "relevance_column"),
    *("numeric", "encoding", "separator", "column_names", "max_bytes", "split", "classes", "image_size", "image_mode"),
    *("channels_last", "in_memory", "max_pixels", "skip_broken", "model", "model_option", "preprocess", "collate"),
)
OPTIONS = ("embeddings", "index_embeddings", "sums", "part", "output")  # of this file, for files of embeddings
OPTIONS_OF_SEARCH = ("label_column", "run", "distance", "metric", "dims", "exclude_duplicates")


def refuse(given: Mapping[str, Any], names: Sequence[str], flag: str) -> None:
    """Raise ``ValueError`` for an option that cannot be used with ``flag``."""
    for name in names:
        if given.get(name):
            raise ValueError(f"--{name.replace('_', '-')} must not be given with {flag}, got {given[name]!s:.80}")


def check_data(given: Mapping[str, Any]) -> list[Path]:
    """Return ``--data``; raise ``ValueError`` without it, or for an option that needs ``--embeddings``."""
    if not given.get("data"):
        raise ValueError("--data must be given, or --embeddings or --sums, got none of them")
    for name in OPTIONS:
        if given.get(name):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be used with --embeddings, got {given[name]!s:.80} with --data")
    return list(given["data"])


def read_sums(given: Mapping[str, Any]) -> dict[str, float]:
    """Add up the sums of all parts: the command ``evaluate --sums``.

    Raises:
        ValueError: If the parts are not all there, or not of one evaluation.
    """
    from ..evaluation import MetricSums

    refuse(given, (*OPTIONS_OF_DATA, *OPTIONS_OF_SEARCH, "embeddings", "index_embeddings", "part", "output"), "--sums")
    found = [MetricSums.load(path) for path in files_at(given["sums"])]
    return sum(found[1:], start=found[0]).metrics()


def measure_embeddings(given: Mapping[str, Any], dims: Sequence[int] | None) -> "dict[str, float] | MetricSums":
    """Measure embeddings in files: the command ``evaluate --embeddings``.

    Args:
        given: The options of the command.
        dims: The sizes of embeddings; None for the whole.

    Returns:
        The metrics; or with ``--part`` their sums over a part of the queries.

    Raises:
        ValueError: If an option is not for embeddings, a part is missing, or a file has no labels.
    """
    from ..evaluation import DEFAULT_METRICS, check_metrics, retrieval_metrics, retrieval_sums
    from ..evaluation.sizes import check_sizes, metrics_by_size

    refuse(given, OPTIONS_OF_DATA, "--embeddings")
    part = parse_part(given.get("part"))
    if (part is None) != (given.get("output") is None):
        one, other = ("--output", "--part") if part is None else ("--part", "--output")
        raise ValueError(f"{one} must be given with {other}, got no {other}")
    if part is not None:
        check_output(given["output"], (".json",))
    if part is not None and dims is not None:
        raise ValueError(f"--dims must not be given with --part, got {dims}")
    names = tuple(given.get("metric") or DEFAULT_METRICS)
    check_metrics(names)
    options: dict[str, Any] = {
        "distance": distance_of(given),
        "exclude_duplicates": bool(given.get("exclude_duplicates")),
    }
    queries = read_embeddings("--embeddings", given["embeddings"], given.get("label_column"), "data")
    sides: list[Embedded] = [queries]
    if given.get("index_embeddings"):
        index = read_embeddings("--index-embeddings", given["index_embeddings"], given.get("label_column"), "index")
        if index.label_names != queries.label_names:
            raise ValueError("--index-embeddings must have the label_names of --embeddings, and has others")
        sides.append(index)
    if part is not None:
        arrays = [array for side in sides for array in (side.embeddings, side.labels)]
        return retrieval_sums(*arrays, metrics=names, **options, part=part)

    def measure(*embeddings: "np.ndarray") -> dict[str, float]:
        arrays = [array for x, side in zip(embeddings, sides, strict=True) for array in (x, side.labels)]
        return retrieval_metrics(*arrays, metrics=names, **options)

    dims = None if dims is None else check_sizes("--dims", dims)
    return metrics_by_size(measure, dims, *(side.embeddings for side in sides))


def distance_of(given: Mapping[str, Any]) -> str:
    """``--distance``, that of the run in ``--run``, or the cosine."""
    if given.get("distance") is not None:
        return str(given["distance"])
    if given.get("run") is None:
        return "cosine"
    from ..tuner.base.training.checkpoint import find_run
    from ..tuner.base.training.encoder_files import read_config

    return str(read_config(find_run(given["run"])).get("distance", "cosine"))


def print_measured(
    measured: "Mapping[str, float] | MetricSums", given: Mapping[str, Any], sizes: Sequence[int] | None
) -> None:
    """Print metrics as a table or as JSON, or write the sums of a part."""
    from ..evaluation import MetricSums

    if isinstance(measured, MetricSums):
        measured.save(given["output"])
        print_message(f"{given['output']}  part {given['part']}, {measured.count} queries with a relevant item")
    elif given["json"]:
        print_json(measured)
    elif sizes is not None:
        print_sizes(measured, sizes)
    else:
        print_metrics({"value": measured})
