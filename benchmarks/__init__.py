"""Time and memory of finetuner, compared with other libraries and with lower bounds: see :mod:`.__main__`.

Run ``python -m benchmarks``. All contenders of a row run in turn in one process, so compare the times within a row.
Peak memory is measured in a new process per cell. Nothing here is a test.
"""
