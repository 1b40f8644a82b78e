"""Measure how long training waits for samples from a memory-mapped file that is not cached.

    python benchmarks/read_ahead.py --output results/read_ahead.parquet

Between training steps, random rows are read from a file of 1 GB of features. Each round first drops
the file's pages from memory, then times four ways on one thread, in wall-clock time:

- *touched*: rows are read one by one as they are used;
- *asked*: rows are requested all at once, and the step waits for them;
- *ahead*: the next batch is requested before a step is computed, as `locties.pretrain` does;
- *resident*: rows are already in memory.

The system must accept advice on its cache, as Linux does.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from parts import training_step
from rich.console import Console
from rich.table import Table
from side_by_side import processor
from torch import Tensor

from locties.data import frozen_folder
from locties_paper import results
from locties_paper.site.notebook import commit

ROWS, DIM = 2**17, 2048  # 1 GB in float32
BATCH = 410  # a fifth of 2,048: one of five modalities
STEP, DEGREE = 512, 10  # batch and L of the step computed meanwhile
KINDS = ("resident", "touched", "asked", "ahead")


def written(folder: Path, rows: int = ROWS) -> Path:
    """Write a file like that of `locties.data.frozen.features`."""
    path = folder / "features.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, DIM))
    for part in np.array_split(np.arange(rows), 32):
        array[part] = np.random.default_rng(part[0]).random((len(part), DIM), np.float32)
    array.flush()
    return path


def drop(path: Path) -> None:
    """Drop the file's pages from memory."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def steps(
    kind: str, path: Path, compute: Callable[[], None], count: int, seed: int
) -> tuple[float, float]:
    """Seconds of a step, and the part spent on requesting and reading samples."""
    drop(path)
    array = torch.from_numpy(np.load(path, mmap_mode="c"))
    rows = torch.arange(len(array))
    held: Tensor | frozen_folder.Mapped = frozen_folder.Mapped(
        torch.zeros(len(array), 2), rows, array, path.parent, rows
    )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(array), generator=generator)[: (count + 1) * BATCH].split(BATCH)
    if kind == "resident":
        held = array[torch.cat(order)]
        order = torch.randperm(len(held), generator=generator).split(BATCH)
    nothing = patch.object(frozen_folder, "prefetch", lambda *_: None)
    waited = 0.0
    start = time.perf_counter()
    for now, coming in pairwise(order):
        before = time.perf_counter()
        if kind == "touched":
            with nothing:
                held[now]
        else:
            held[now]
        if kind == "ahead":
            held.expect(coming)
        waited += time.perf_counter() - before
        compute()
    return (time.perf_counter() - start) / count, waited / count


def measure(folder: Path, count: int, rounds: int, rows: int = ROWS) -> pd.DataFrame:
    """A row for each kind and round: seconds of a step, and the part spent waiting for samples."""
    path = written(folder, rows)
    compute = training_step(batch=STEP, degree=DEGREE)
    compute()
    taken = [
        {"kind": kind, "round": n, **dict(zip(("step", "waited"), times, strict=True))}
        for n in range(rounds)
        for kind in KINDS
        for times in [steps(kind, path, compute, count, seed=n)]
    ]
    return pd.DataFrame(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    commit()  # read it now: files may change during the run
    torch.set_num_threads(1)
    load = f"{os.getloadavg()[0]:.1f}"
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        table = measure(Path(name), chosen.steps, chosen.rounds)
    medians = table.groupby("kind")[["step", "waited"]].median() * 1e3
    printed = Table("", "ms a step", "of which for samples")
    for kind in KINDS:
        printed.add_row(kind, *(f"{value:.1f}" for value in medians.loc[kind]))
    Console().print(printed)
    if chosen.output:
        where = {"machine": processor(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "load": load}
        settings = {"steps": chosen.steps, "rounds": chosen.rounds}
        results.write(table.assign(**where), chosen.output, settings)


if __name__ == "__main__":
    main()
