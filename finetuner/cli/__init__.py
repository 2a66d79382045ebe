"""The command line: ``finetuner fit | evaluate | embed | demo``."""

from .commands import app, main

__all__ = ["app", "main"]
