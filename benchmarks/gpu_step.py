"""Measure a MELT step on a GPU: time, kernels and floor, run eagerly and as a CUDA graph.

    python benchmarks/gpu_step.py --output gpu_step.parquet

Three modalities of profiles, total batch 2,048, L = 40, SIREN 512, data resident. The floor is the
longer of two times: the step's floating-point operations at the rate of a large matrix product, and
the bytes of its operations at the rate of a large copy. Both rates are measured in the same minute.
Eager operations move every intermediate through memory. The floor is that of this program; another
could move fewer bytes.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
from counts import count
from parts import training_step
from rich.console import Console
from rich.table import Table

from locties_paper import results

MODALITIES, BATCH = 3, 2048
DEVICE, SIDE, COPIED = "cuda", 8192, 2**30  # of the products and the copy that set the floor
GOALS = {"eager": 3.0, "CUDA graph": 1.0}  # milliseconds

Step = Callable[[], None]


def as_graph(step: Step) -> Step:
    """Record the work that `step` launches, as one CUDA graph. The result launches that graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm up on a side stream, as CUDA graphs require
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Step, rounds: int = 50, repeats: int = 10) -> float:
    """Median time of a step over rounds, by the GPU's clock."""
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
    """Number of kernels and copies that a step launches on the GPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == on_device for event in profile.events())


def measure() -> pd.DataFrame:
    """A row for each kind of encoder, eager and as a graph: times in ms, counts and rates."""
    a, b = (torch.randn(SIDE, SIDE, device=DEVICE) for _ in range(2))
    large = {"float32": (a, b), "bfloat16": (a.bfloat16(), b.bfloat16())}
    rates = {
        kind: 2 * SIDE**3 / milliseconds(lambda x=x, y=y: x @ y, 5)
        for kind, (x, y) in large.items()
    }
    source, target = (torch.empty(COPIED, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    bandwidth = 2 * source.nbytes / milliseconds(lambda: target.copy_(source), 5)
    measured = {f"flops_{kind}": 1e3 * rate for kind, rate in rates.items()}
    measured["bytes_per_second"] = 1e3 * bandwidth
    rows = []
    for encoders in rates:
        step = training_step(MODALITIES, BATCH, bfloat16=encoders == "bfloat16", device=DEVICE)
        counts = count(step)
        # The logits are float32 in both.
        arithmetic = sum(flops / rates[kind] for kind, flops in counts.flops.items())
        floor = max(arithmetic, counts.moved / bandwidth)
        done = {"flops": float(sum(counts.flops.values())), "bytes": float(counts.moved)}
        for name, launch in (("eager", step), ("CUDA graph", as_graph(step))):
            times = {"ms": milliseconds(launch), "goal": GOALS[name], "floor": floor}
            launched = {"encoders": encoders, "launched": name, "kernels": kernels(launch)}
            rows.append({**launched, **times, **done, **measured})
    return pd.DataFrame(rows).assign(
        machine=torch.cuda.get_device_name(),
        torch=torch.__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def show(table: pd.DataFrame) -> None:
    columns = (
        *("encoders", "launched", "ms", "goal", "kernels"),
        *("GFLOP", "GB", "floor, ms", "x floor"),
    )
    first = table.iloc[0]
    printed = Table(title=f"{first['machine']}, torch {first['torch']}")
    for column in columns:
        printed.add_column(column, justify="right")
    for row in table.itertuples():
        printed.add_row(
            row.encoders,
            row.launched,
            f"{row.ms:.2f}",
            f"{row.goal:.0f}",
            str(row.kernels),
            f"{row.flops / 1e9:.1f}",
            f"{row.bytes / 1e9:.2f}",
            f"{row.floor:.2f}",
            f"{row.ms / row.floor:.1f}",
        )
    Console().print(printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: nothing was measured")
    table = measure()
    show(table)
    if chosen.output:
        results.write_table(table, chosen.output)


if __name__ == "__main__":
    main()
