"""How many rows a loss takes at a time, so that nothing of N x M ever has to exist.

The distances of a block fit into a core's cache, in which the many small steps of a loss cost little: most of the time
of a loss that makes all N x M at once goes into reading and writing them.
"""

__all__ = ["BLOCK", "ON_ACCELERATORS", "row_blocks", "rows_per_block"]

BLOCK = 2**18  # distances of a block: 1 MiB of float32
ON_ACCELERATORS = 2**26  # where starting an operation costs more than memory does: 256 MiB


def rows_per_block(columns: int, on_cpu: bool = True) -> int:
    """How many rows of ``columns`` a block holds, at least 1."""
    return max(1, (BLOCK if on_cpu else ON_ACCELERATORS) // max(1, columns))


def row_blocks(rows: int, columns: int, on_cpu: bool = True) -> list[tuple[int, int]]:
    """The first row and the number of rows of each block of ``rows`` rows of ``columns``, in order."""
    step = rows_per_block(columns, on_cpu)
    return [(start, min(step, rows - start)) for start in range(0, rows, step)]
