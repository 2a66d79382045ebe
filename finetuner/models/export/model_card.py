"""The model card of an export: what the model is, how it was trained, and what it is worth."""

from typing import Any

from ...tuner.base.training.encoder import Encoder

__all__ = ["model_card"]

SETTINGS = ("loss", "optimizer", "learning_rate", "schedule", "warmup", "clip_norm", "train_data", "eval_data")


def model_card(encoder: Encoder, name: str) -> str:
    """The text of a ``README.md``, with the settings and the metrics of the run that trained the encoder."""
    run = encoder.record
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity", "tags:"]
    lines += ["- sentence-transformers", "- sentence-similarity", "- feature-extraction", "- finetuner", "---", ""]
    lines += [f"# {name}", "", "A text embedding model, fine-tuned with finetuner.", "", "## Usage", "", "```python"]
    lines += ["from sentence_transformers import SentenceTransformer", ""]
    lines += [f'model = SentenceTransformer("{name}")', 'embeddings = model.encode(["where is my card?"])', "```", ""]
    metrics: dict[str, dict[str, float]] = run.get("metrics") or {}
    if metrics:
        lines += ["## Metrics", "", f"| metric | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
        for metric in next(iter(metrics.values())):
            lines.append(f"| {metric} | {' | '.join(number(values.get(metric)) for values in metrics.values())} |")
        lines.append("")
    config: dict[str, Any] = run.get("config") or {}
    rows = [f"| {key} | {text_of(config[key])} |" for key in SETTINGS if config.get(key) is not None]
    rows += [f"| {key} | {text_of(value)} |" for key, value in (config.get("fit") or {}).items() if value is not None]
    if rows:
        lines += ["## Training", "", "| setting | value |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A metric as a cell of a table. A saved run has no value for one that is not a number."""
    return "" if value is None else f"{value:.4f}"


def text_of(value: Any) -> str:
    """A setting as a cell of a table."""
    if isinstance(value, dict) and "name" in value:
        options = ", ".join(f"{key}={one}" for key, one in (value.get("options") or {}).items())
        value = f"{value['name']}({options})"
    return str(value).replace("|", "\\|").replace("\n", " ")
