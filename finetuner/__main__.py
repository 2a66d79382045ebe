"""``python -m finetuner`` runs the command ``finetuner``."""

from .cli import main

if __name__ == "__main__":
    main()
