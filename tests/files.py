"""The path of the real data, and a function that writes files."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write_file(path, content):
    """Write bytes or text, and return the path."""
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path
