"""The command ``export``."""

from pathlib import Path
from typing import Annotated

import typer

from . import options as o
from .inputs import check_inputs, read_data
from .models import open_encoder, run_settings
from .names import EXPORT_FORMATS, complete
from .terminal import handle_errors
from .user_code import use_threads

__all__ = ["export"]

Source = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a saved run; or a model by name or folder.")]
Target = Annotated[Path, typer.Argument(metavar="PATH", help="New file, or new folder for a format of folders.")]
ExportFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        autocompletion=complete(EXPORT_FORMATS),
        help=f"{', '.join(EXPORT_FORMATS)}. Default: onnx for .onnx, torch-export for .pt2, litert for .tflite.",
    ),
]
Items = Annotated[
    list[Path] | None,
    o.option("--data", o.DATA, "Items to compare the embeddings of. Models of texts need none. Repeatable.", "PATH"),
]


@handle_errors
def export(
    context: typer.Context,
    source: Source,
    path: Target,
    *,
    format: ExportFormat = None,
    data: Items = None,
    input_column: o.InputColumn = None,
    image_column: o.ImageColumn = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    model: o.OptionalModel = None,
    model_option: o.ModelOption = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    trust: o.Trust = False,
    device: o.Device = "auto",
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Write a model in the format of another tool, and compare the embeddings.

    The embeddings of what was written are compared with those of the model. A
    difference above 1e-4 is an error, and nothing is written then.
    """
    options = {name: value for name, value in locals().items() if name not in ("context", "source", "path", "format")}
    options["run" if is_run(Path(source)) else "model"] = Path(source) if is_run(Path(source)) else source
    if model is not None:
        options["model"] = model
    settings = run_settings(context, options)
    use_threads(threads)
    check_inputs(*(data or ()))
    encoder = open_encoder(settings)
    items = read_data(data, {**settings, "in_memory": False}, None, "data", False) if data else None
    difference = encoder.export(path, format, items)
    typer.echo(f"written to {path}, largest difference {difference:.1g}")


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a saved run, or of its checkpoints."""
    return folder.is_dir() and any((one / "weights.safetensors").is_file() for one in (folder, *folder.iterdir()))
