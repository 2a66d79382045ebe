"""Parts of a work that several processes share without talking to each other: 3 of 8, counted from 1."""

from typing import Any

import numpy as np

__all__ = ["Part", "check_part", "part_bounds"]

Part = tuple[int, int]


def check_part(part: Any) -> Part:
    """Return a part as two integers.

    Args:
        part: The number of the part, from 1, and the number of parts.

    Raises:
        TypeError: If it is not two integers.
        ValueError: If the number is not from 1 to the number of parts.

    Example:
        >>> check_part((3, 8))
        (3, 8)
    """
    pair = tuple(part) if isinstance(part, tuple | list) else ()
    if len(pair) != 2 or any(isinstance(value, bool) or not isinstance(value, int | np.integer) for value in pair):
        raise TypeError(f"part must be two integers, such as (3, 8) for the third of eight parts, got {part!r}")
    number, parts = map(int, pair)
    if not 1 <= number <= parts:
        raise ValueError(f"part must be from 1 to the number of parts, such as (3, 8), got {(number, parts)}")
    return number, parts


def part_bounds(count: int, part: Part) -> tuple[int, int]:
    """Start and stop of a part of ``count`` things. The parts differ in size by at most 1, and may be empty.

    Example:
        >>> [part_bounds(5, (number, 3)) for number in (1, 2, 3)]
        [(0, 1), (1, 3), (3, 5)]
    """
    number, parts = part
    return (number - 1) * count // parts, number * count // parts
