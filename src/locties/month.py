"""Months: whole numbers from 1, January, to 12, December."""

import math
import reprlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DIM = 4  # numbers of `cyclic`
_REMEDY = "give whole numbers from 1, January, to 12, December, or dates of numpy"


def check(month: Any, n: int) -> Tensor:
    """Months as a tensor (n,) int64, each from 1 to 12.

    Args:
        month: one month for all places, or n of them: numbers, or dates (numpy.datetime64).
        n: number of places.

    Example:
        >>> check(7, 2)
        tensor([7, 7])
        >>> check(np.array(["2024-12-24"], "datetime64[D]"), 1)
        tensor([12])
        >>> check([1, 13], 2)
        Traceback (most recent call last):
        ValueError: month at row 1 is 13: give whole numbers from 1, January, to 12, December, \
or dates of numpy
    """
    months = read(month, n)
    whole = (months >= 1) & (months <= 12) & (months == months.round())  # false for NaN
    if not bool(whole.all()):
        row = int((~whole).nonzero()[0])
        raise ValueError(f"month at row {row} is {months[row].item():g}: {_REMEDY}")
    return months.long()


def read(month: Any, n: int) -> Tensor:
    """Months as numbers (n,), NaN where a date is missing; no value is checked."""
    months = month if isinstance(month, Tensor) else _tensor(month)
    if months.ndim == 0:
        months = months.expand(n)
    if months.shape != (n,):
        raise ValueError(
            f"month has shape {tuple(months.shape)} and there are {n} places: give one month, or "
            "one for each place"
        )
    if months.is_complex() or months.dtype == torch.bool:
        raise ValueError(f"month holds {months.dtype}: {_REMEDY}")
    return months


def _tensor(month: Any) -> Tensor:
    try:
        values = np.asarray(month)
        if values.dtype.kind == "M":
            values = of_dates(values)
        if values.dtype.kind not in "iuf" or np.ma.isMaskedArray(month):
            raise TypeError
        return torch.tensor(values.astype(np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"month={reprlib.repr(month)}: {_REMEDY}") from None


def of_dates(dates: np.ndarray) -> np.ndarray:
    """The months, float64, of dates (numpy.datetime64); NaN where a date is missing.

    Example:
        >>> of_dates(np.array(["2024-02-29", "NaT"], "datetime64[D]"))
        array([ 2., nan])
    """
    months = dates.astype("datetime64[M]")
    since_1970 = months.astype(np.int64)
    return np.where(np.isnat(months), np.nan, since_1970 % 12 + 1.0)


def cyclic(month: Tensor) -> Tensor:
    """The month as a place on a circle: (N,) months to (N, 4) float32.

    The first two numbers are the sine and cosine of an angle that goes round once a year, the other
    two those of twice that angle. So December is as close to January as January is to February.

    Example:
        >>> cyclic(torch.tensor([3, 12])).round().abs()
        tensor([[1., 0., 0., 1.],
                [0., 1., 0., 1.]])
    """
    angle = month.double() * (2 * math.pi / 12)
    return torch.stack(
        [angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], dim=1
    ).float()
