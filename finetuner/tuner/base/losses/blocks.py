"""How many distances a loss computes at a time, so that no array of size N x M is needed.

The distances of a tile, or of a block of rows, fit into a core's cache. The many small operations of a loss are fast
there. A loss that computes all N x M distances at once spends most of its time on memory access.
"""

__all__ = [
    "BLOCK_SIZE",
    "BLOCK_SIZE_ACCELERATOR",
    "KEPT_SIZE",
    "SECOND_DERIVATIVES",
    "kept_size",
    "row_blocks",
    "rows_per_block",
    "suits_tiles",
    "tile_size",
    "tile_sizes",
]

# The message where a gradient that was computed with the value is differentiated again.
SECOND_DERIVATIVES = (
    "second derivatives of this loss must be computed with PyTorch; here, a gradient that is computed in parts has none"
)

BLOCK_SIZE = 2**18  # distances in a block: 1 MiB of float32
TILE_SIZE = 512  # rows and columns of a tile
TILE_SIZE_ACCELERATOR = 4096  # 64 MiB
KEPT_SIZE = 10 * 2**20  # distances in tiles that are kept for the backward pass: 40 MiB
BLOCK_SIZE_ACCELERATOR = 2**26  # 256 MiB: on accelerators, starting an operation costs more than memory access


def rows_per_block(columns: int, on_cpu: bool = True) -> int:
    """How many rows of ``columns`` distances are in a block, at least 1."""
    return max(1, (BLOCK_SIZE if on_cpu else BLOCK_SIZE_ACCELERATOR) // max(1, columns))


def row_blocks(rows: int, columns: int, on_cpu: bool = True) -> list[tuple[int, int]]:
    """The first row and the number of rows of each block of a matrix ``[rows, columns]``."""
    step = rows_per_block(columns, on_cpu)
    return [(start, min(step, rows - start)) for start in range(0, rows, step)]


def kept_size(on_cpu: bool = True) -> int:
    """How many distances of tiles are kept for the backward pass at most."""
    return KEPT_SIZE if on_cpu else BLOCK_SIZE_ACCELERATOR


def tile_size(on_cpu: bool = True) -> int:
    """The number of rows and of columns of a tile."""
    return TILE_SIZE if on_cpu else TILE_SIZE_ACCELERATOR


def suits_tiles(rows: int, columns: int, on_cpu: bool = True) -> bool:
    """Whether a matrix ``[rows, columns]`` is so large that tiles are faster than one computation of the whole."""
    return rows > rows_per_block(columns, on_cpu)


def tile_sizes(rows: int, columns: int, square: bool, on_cpu: bool = True) -> tuple[int, int]:
    """The rows and columns of a tile of a matrix ``[rows, columns]``. Of a matrix with few rows it is wider."""
    size = tile_size(on_cpu)
    if square:
        return min(size, rows), min(size, rows)
    height = max(1, min(rows, size))
    return height, max(1, min(columns, size * size // height))
