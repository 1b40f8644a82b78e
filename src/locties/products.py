"""Products of float32 matrices on a CPU, by the faster of the two libraries that torch has."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

ROUNDING = 1e-5  # of a product's largest value; in float32 it is 4e-7, in bfloat16 2e-3


@contextmanager
def by_onednn() -> Iterator[None]:
    """Take products of float32 matrices by oneDNN, where it takes them in float32.

    torch takes them by MKL, unless oneDNN may round to bfloat16: a processor without matrix units
    for bfloat16 does not, and its product in float32 can be a fifth faster (AMD). Where it would
    round, where torch is older than 2.9 or has no oneDNN, or where the reader chose a precision,
    nothing changes. As it was, after.

    Example:
        >>> a = torch.randn(256, 256)
        >>> with by_onednn():
        ...     error = (a @ a - (a.double() @ a.double())).abs().max()
        >>> bool(error < 1e-3)
        True

    Source: torch's notes on its MKLDNN backend, for `fp32_precision`.
    """
    setting = _setting()
    chosen = setting is None or setting.fp32_precision != "none"
    if chosen or not _in_float32():
        yield
        return
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = "none"


def _setting() -> Any:
    """What torch 2.9 and later have, for products alone."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.backends.mkldnn, "matmul", None)


@cache
def _in_float32() -> bool:
    """Whether products stay in float32 where bfloat16 is allowed: looked at, once a process."""
    setting, generator = _setting(), torch.Generator().manual_seed(0)
    a = torch.randn(256, 256, generator=generator)
    exact = a.double() @ a.double()
    setting.fp32_precision = "bf16"
    try:
        error = (a @ a - exact).abs().max()
    finally:
        setting.fp32_precision = "none"
    return bool(error < ROUNDING * exact.abs().max())
