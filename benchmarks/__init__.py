"""What finetuner costs, beside its peers and the bare limit: ``python -m benchmarks``, see :mod:`.__main__`.

Times are ratios within one run: all contenders of a row take turns in one process. Peak memory is that of a fresh
process per row. Nothing here is a test.
"""
