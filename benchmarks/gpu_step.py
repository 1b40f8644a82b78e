"""A step of MELT on a GPU: its time, kernels and floor, eager and as a CUDA graph.

    python benchmarks/gpu_step.py

Three modalities of profiles, total batch 2,048, L = 40, SIREN 512, data resident. The floor is the
longer of two times: the step's floating-point operations at the rate of a large product of
matrices, and the bytes that its operations read and write at the rate of a large copy, both
measured here in the same minute. Eager operations move every intermediate through memory, so bytes
are those of what is computed, as it is written, not the least that any program could do with.
"""

import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from parts import training_step
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

MODALITIES, BATCH = 3, 2048
GOALS = {"eager": 3.0, "CUDA graph": 1.0}  # milliseconds

Step = Callable[[], None]


class Counts(NamedTuple):
    """What one step does: floating-point operations, bytes moved, and operations that move any."""

    flops: int
    moved: int
    operations: int


class _Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write; views and mere allocations move none."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        owned = {x.untyped_storage().data_ptr() for x in given}
        mutates = any(a.alias_info and a.alias_info.is_write for a in function._schema.arguments)
        is_view = (
            made and not mutates and all(x.untyped_storage().data_ptr() in owned for x in made)
        )
        if made and not is_view and "empty" not in function.__name__:
            self.moved += sum(x.numel() * x.element_size() for x in given + made)
            self.operations += 1
        return result


def count(step: Step) -> Counts:
    """Count one call of `step`, on whichever device it runs."""
    with FlopCounterMode(display=False) as flops:
        step()
    with _Traffic() as traffic:
        step()
    return Counts(flops.get_total_flops(), traffic.moved, traffic.operations)


def as_graph(step: Step) -> Step:
    """Record the work that `step` launches; the answer launches it again as one."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # not on the default stream, so that memory is set up first
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Step, rounds: int = 50, repeats: int = 10) -> float:
    """The median over rounds of the time of a step, by the device's own clock."""
    for _ in range(repeats):
        step()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / repeats)
    return statistics.median(times)


def kernels(step: Step) -> int:
    """How many kernels and copies a step launches on the device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == on_device for event in profile.events())


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: nothing was measured")
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    large = {False: (a, b), True: (a.bfloat16(), b.bfloat16())}
    source, target = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    bandwidth = 2 * source.nbytes / milliseconds(lambda: target.copy_(source), 5)
    table = Table(title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    columns = (
        "encoders",
        "launched",
        "ms",
        "goal",
        "kernels",
        "GFLOP",
        "GB",
        "floor, ms",
        "x floor",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for bfloat16, (left, right) in large.items():
        step = training_step(MODALITIES, BATCH, bfloat16=bfloat16, device="cuda")
        counts = count(step)
        rate = 2 * 8192**3 / milliseconds(lambda x=left, y=right: x @ y, 5)
        floor = max(counts.flops / rate, counts.moved / bandwidth)
        for name, launch in (("eager", step), ("CUDA graph", as_graph(step))):
            took = milliseconds(launch)
            table.add_row(
                "bfloat16" if bfloat16 else "float32",
                name,
                f"{took:.2f}",
                f"{GOALS[name]:.0f}",
                str(kernels(launch)),
                f"{counts.flops / 1e9:.1f}",
                f"{counts.moved / 1e9:.2f}",
                f"{floor:.2f}",
                f"{took / floor:.1f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
