"""Parts of a work on the command line, such as ``--part 3/8``."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from .options import OTHER, option

__all__ = ["EmbedPart", "check_part_dtype", "columns_of_part", "parse_part"]

EmbedPart = Annotated[
    str | None,
    option(
        "--part",
        OTHER,
        "Embed only a part of the items: 3/8 is the third of eight. The parts in order are what one process writes.",
        "NUMBER/PARTS",
    ),
]
PER_ITEM = ("labels", "names")  # of an .npz; label_names is of all items


def parse_part(text: str | None) -> tuple[int, int] | None:
    """Parse a part; None for none.

    Raises:
        ValueError: If it is not the number of a part and the number of parts.

    Example:
        >>> parse_part("3/8")
        (3, 8)
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    number, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= parts:
        raise ValueError(f"--part must be NUMBER/PARTS, such as 3/8 for the third of eight parts, got {text!r}")
    return number, parts


def check_part_dtype(part: tuple[int, int] | None, dtype: str) -> None:
    """Raise ``ValueError`` if each part would have ranges of its own for the bytes of its embeddings."""
    if part is not None and part[1] > 1 and dtype in ("int8", "uint8"):
        raise ValueError(
            f"--dtype must be float32, binary or ubinary with --part, got {dtype!r}, for which each part would have "
            "other ranges; finetuner.embed(part=..., calibration=...) takes ranges"
        )


def columns_of_part(columns: Mapping[str, Any], rows: slice, is_table: bool) -> dict[str, Any]:
    """The columns of the items of a part: of a table, or the arrays of an ``.npz``."""
    return {name: values[rows] if is_table or name in PER_ITEM else values for name, values in columns.items()}
