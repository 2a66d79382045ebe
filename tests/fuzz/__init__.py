"""A fuzz driver: random inputs of all kinds, compared with the references. See ``python -m tests.fuzz --help``."""
