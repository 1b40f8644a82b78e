"""What keeps products of matrices fast on a CPU."""

from contextlib import ContextDecorator
from functools import cache
from threading import Lock
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Some processors (Intel's) multiply denormal numbers, those below 1e-38 in float32, many times
# slower. Terms up to this size, added to terms near one, are set to zero; the distance to 1e-38
# leaves room for factors below one.
NEGLIGIBLE = 1e-30
ROUNDING = 1e-5  # of a product's largest value; in float32 it is 4e-7, in bfloat16 2e-3


def drop_denormal_gradients(x: Tensor) -> None:
    """Set gradients of `x` up to `NEGLIGIBLE` to zero on a CPU, before they are multiplied."""
    if x.requires_grad and x.is_cpu:
        untyped: Any = x
        untyped.register_hook(lambda grad: None if grad is None else F.hardshrink(grad, NEGLIGIBLE))


class ByOneDNN(ContextDecorator):
    """Take products of float32 matrices by oneDNN, where it takes them in float32.

    torch takes them by MKL, unless oneDNN is allowed to round to bfloat16. A processor without
    matrix units for bfloat16 does not round, and its products by oneDNN can be a fifth faster than
    by MKL (AMD). Where it would round, where torch has no oneDNN, or where the reader chose a
    precision, nothing changes.

    The setting, `torch.set_float32_matmul_precision`, is one for the whole process: other threads
    have it too, and a GPU may round to TF32 meanwhile. The last to leave puts it back.

    Attributes:
        used: whether oneDNN keeps float32 here; looked at when the first one is made.

    Example:
        >>> a = torch.randn(256, 256)
        >>> with ByOneDNN():
        ...     error = (a @ a - a.double() @ a.double()).abs().max()
        >>> bool(error < 1e-3)
        True

    Source: torch's notes on its MKLDNN backend, for what the setting allows.
    """

    _lock, _inside, _changed = Lock(), 0, False  # of all that there are

    def __init__(self) -> None:
        self.used = _in_float32()

    def __enter__(self) -> None:
        with ByOneDNN._lock:
            if ByOneDNN._inside == 0:
                ByOneDNN._changed = self.used and _usual()
                if ByOneDNN._changed:
                    torch.set_float32_matmul_precision("medium")
            ByOneDNN._inside += 1

    def __exit__(self, *_: object) -> None:
        with ByOneDNN._lock:
            ByOneDNN._inside -= 1
            if ByOneDNN._inside == 0 and ByOneDNN._changed:
                torch.set_float32_matmul_precision("highest")


def _usual() -> bool:
    """Whether nobody chose a precision."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was chosen for one library alone
        return False


@cache
def _in_float32() -> bool:
    """Whether products stay in float32 where bfloat16 is allowed."""
    untyped: Any = torch.backends.mkldnn
    if not (untyped.is_available() and _usual()):
        return False
    with torch.autocast("cpu", enabled=False):
        generator = torch.Generator().manual_seed(0)
        a = torch.randn(256, 256, generator=generator, dtype=torch.float32, device="cpu")
        exact = a.double() @ a.double()
        torch.set_float32_matmul_precision("medium")
        try:
            error = (a @ a - exact).abs().max()
        finally:
            torch.set_float32_matmul_precision("highest")
    return bool(error < ROUNDING * exact.abs().max())


@cache
def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 matrices faster than float32 ones; measured once.

    With instructions for bfloat16 a product takes half the time, without them 2 to 40 times as
    long. Less than 0.1 s.
    """
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        matrices = {dtype: torch.ones(256, 256, dtype=dtype, device="cpu") for dtype in seconds}
        for _ in range(5):  # in turns, so that other load slows both
            for dtype, a in matrices.items():
                start = perf_counter()
                torch.mm(a, a)
                seconds[dtype] = min(seconds[dtype], perf_counter() - start)
    return seconds[torch.bfloat16] < seconds[torch.float32]
