"""Files that tests write, and where the real data is."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))


def written(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path
