"""Products of float32 matrices on a CPU, by the faster of the two libraries that torch has."""

from contextlib import ContextDecorator
from functools import cache
from typing import Any

import torch

ROUNDING = 1e-5  # of a product's largest value; in float32 it is 4e-7, in bfloat16 2e-3


class ByOneDNN(ContextDecorator):
    """Take products of float32 matrices by oneDNN, where it takes them in float32.

    torch takes them by MKL, unless oneDNN is allowed to round to bfloat16. A processor without
    matrix units for bfloat16 does not round, and its products by oneDNN can be a fifth faster than
    by MKL (AMD). Where it would round, where torch is older than 2.9 or has no oneDNN, or where
    the reader chose a precision, nothing changes. On leaving, all is as it was.

    Whether it rounds is looked at when the first one is made. One can be entered again, though not
    within itself.

    Example:
        >>> a = torch.randn(256, 256)
        >>> with ByOneDNN():
        ...     error = (a @ a - a.double() @ a.double()).abs().max()
        >>> bool(error < 1e-3)
        True

    Source: torch's notes on its MKLDNN backend, for `fp32_precision`.
    """

    def __init__(self) -> None:
        self._allowed = _setting() is not None and _in_float32()

    def __enter__(self) -> None:
        self._changes = self._allowed and _setting().fp32_precision == "none"
        if self._changes:
            _setting().fp32_precision = "bf16"

    def __exit__(self, *_: object) -> None:
        if self._changes:
            _setting().fp32_precision = "none"


def _setting() -> Any:
    """What torch 2.9 and later have, for products alone."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.backends.mkldnn, "matmul", None)


@cache
def _in_float32() -> bool:
    """Whether products stay in float32 where bfloat16 is allowed."""
    setting, a = _setting(), torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    exact, before = a.double() @ a.double(), setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        error = (a @ a - exact).abs().max()
    finally:
        setting.fp32_precision = before
    return bool(error < ROUNDING * exact.abs().max())
