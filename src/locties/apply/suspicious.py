"""Find numbers that probably mean "no measurement", such as -9999, in tables and rasters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIMITS = {2.0**bits - less for bits in (7, 15, 16, 31, 32) for less in (0, 1)} | {255.0}
_FAR = 4  # times the range of all other numbers
_OFTEN = 3  # times that an ordinary number must occur


def suspicious_values(values: Any) -> list[tuple[float, NDArray[Any]]]:
    """Numbers far from all others that look like a code for "missing", and where they are.

    Codes are -9999, 9999.9, -32768, -3.4e38, 1e20 and the like. They count if a gap separates them
    from the range of all other numbers; a code that occurs once needs a wide gap. An ordinary
    number, such as 0 among 280 to 300 kelvin, counts if it is repeated and the gap is wide.

    Args:
        values: numbers of any shape. Masked, NaN and infinite ones are ignored.

    Returns:
        Each such number, and where it is: bool, in the shape of `values`.

    Example:
        >>> [(value, rows)] = suspicious_values([6.5, -9999, 7.1, 5.9, -9999])
        >>> value, rows.nonzero()[0].tolist()
        (-9999.0, [1, 4])
        >>> suspicious_values([120, -30, -30, 800, 2400])
        []
    """
    numbers = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    rest = numbers[np.isfinite(numbers)]
    codes = []
    for end in (np.min, np.max):
        while len(rest) and _looks_like_code(value := float(end(rest))):
            codes.append((value, int((rest == value).sum())))
            rest = rest[rest != value]
    found = [value for value, count in codes if _is_far(value, count, rest)]
    for end in (np.min, np.max):
        if len(rest):
            value = float(end(rest))
            others = rest[rest != value]
            wide = _FAR * _range(others)
            if len(rest) - len(others) >= _OFTEN and _gap(value, others) >= wide > 0:
                found.append(value)
                rest = others
    return [(value, numbers == value) for value in found]


def _looks_like_code(value: float) -> bool:
    """Whether `value` is all 9s (or 6s, 7s, 8s), a power of ten, a type's limit, or huge."""
    size = abs(value)
    digits = f"{size:.7g}".replace(".", "")  # as many digits as a float32 has
    repeated = len(digits) > 1 and len(set(digits)) == 1 and digits[0] in "6789"
    return (
        repeated
        or size in _LIMITS
        or size >= 1e15
        or (size >= 1000 and size == float(f"1e{round(np.log10(size))}"))
    )


def _is_far(value: float, count: int, rest: NDArray[Any]) -> bool:
    if not len(rest) or not _range(rest):
        return False
    if value <= -99 and rest.min() >= 0:
        return True  # the only negative number
    gap = _gap(value, rest)
    half = abs(np.median(rest) - (rest.min() if value < rest.min() else rest.max()))
    return bool(gap >= (half if count > 1 else _FAR * _range(rest)) > 0)


def _gap(value: float, rest: NDArray[Any]) -> float:
    """Distance from `value` to the nearest number of `rest`, all on one side of it."""
    return float(max(rest.min() - value, value - rest.max())) if len(rest) else 0.0


def _range(rest: NDArray[Any]) -> float:
    return float(rest.max() - rest.min()) if len(rest) else 0.0
