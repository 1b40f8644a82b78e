"""Keep matrix products fast on a CPU."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator
from functools import cache
from threading import Lock
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Intel processors multiply denormal numbers (below 1e-38 in float32) many times slower. So terms up
# to this size are set to zero; they are added to terms near one. The gap down to 1e-38 leaves room
# for further factors below one.
NEGLIGIBLE = 1e-30
ROUNDING = 1e-5  # relative error of a product; it is 4e-7 in float32 and 2e-3 in bfloat16


def drop_denormal_gradients(x: Tensor) -> None:
    """Set gradients of `x` up to `NEGLIGIBLE` to zero on a CPU, before they are multiplied."""
    if x.requires_grad and x.is_cpu:
        untyped: Any = x
        untyped.register_hook(lambda grad: None if grad is None else F.hardshrink(grad, NEGLIGIBLE))


class ByOneDNN(ContextDecorator):
    """In the block, oneDNN multiplies float32 matrices, if it keeps float32 precision.

    By default torch uses MKL; on AMD, oneDNN can be a fifth faster. torch uses oneDNN only if
    bfloat16 is also allowed. Processors with matrix units for bfloat16 then round to it, so nothing
    changes on them. Nothing changes without oneDNN either, or if the user chose a precision.

    `torch.set_float32_matmul_precision` holds for the whole process: in the block, other threads
    use it too, and a GPU may round to TF32. The last block to end restores it.
    """

    _lock, _inside, _changed = Lock(), 0, False  # shared by all instances

    def __init__(self) -> None:
        self._keeps_float32 = _onednn_keeps_float32()

    def __enter__(self) -> None:
        with ByOneDNN._lock:
            if ByOneDNN._inside == 0:
                ByOneDNN._changed = self._keeps_float32 and _precision_is_default()
                if ByOneDNN._changed:
                    torch.set_float32_matmul_precision("medium")
            ByOneDNN._inside += 1

    def __exit__(self, *_: object) -> None:
        with ByOneDNN._lock:
            ByOneDNN._inside -= 1
            if ByOneDNN._inside == 0 and ByOneDNN._changed:
                torch.set_float32_matmul_precision("highest")


def _precision_is_default() -> bool:
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set for one library only
        return False


@cache
def _onednn_keeps_float32() -> bool:
    """Whether float32 products keep their precision while bfloat16 is allowed; tested once."""
    untyped: Any = torch.backends.mkldnn
    if not (untyped.is_available() and _precision_is_default()):
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

    A bfloat16 product takes 0.5 to 2 times the time of float32 on processors with bfloat16
    instructions, and 2 to 40 times on others. Measuring takes less than 0.1 s.
    """
    # In a separate thread, so that a mode of the caller, such as a FLOP counter, misses it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_bfloat16_wins).result()


@torch.inference_mode()
def _bfloat16_wins() -> bool:
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    matrices = {dtype: torch.ones(256, 256, dtype=dtype, device="cpu") for dtype in seconds}
    for _ in range(5):  # in turns, so that other load slows both
        for dtype, a in matrices.items():
            start = perf_counter()
            torch.mm(a, a)
            seconds[dtype] = min(seconds[dtype], perf_counter() - start)
    return seconds[torch.bfloat16] < seconds[torch.float32]
