"""Compare a training step on frozen features, read from their file, with one on profiles.

    python benchmarks/frozen_step.py

20,000 texts' features of 512 numbers are written, then read. A step at L = 40 takes 2,048 pairs.
Steps are interleaved and timed in CPU seconds of one thread, so that other work on the machine
counts little; the table has medians and ratios of medians to the first row.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from parts import places, profiles, training_step
from rich.console import Console
from rich.table import Table

from locties.data.frozen import features
from locties.data.frozen_encoders import FrozenEncoder
from locties.data.frozen_folder import Mapped, read_features
from locties.data.texts import Texts

ROWS, DIM, BATCH = 20_000, 512, 2048


def written(folder: Path) -> float:
    """Write features of texts, drawn at random; the CPU seconds that reading them takes."""
    lon, lat = places(ROWS).T.tolist()
    rng = np.random.default_rng(0)

    def compute(batch: list[str]) -> np.ndarray:
        return rng.normal(size=(len(batch), DIM)).astype(np.float32)

    random = FrozenEncoder("random", "", "0" * 64, "texts", DIM, "cpu", compute)
    texts = Texts({"text": [f"text {i}" for i in range(ROWS)], "lon": lon, "lat": lat})
    features(texts, random, folder, batch=2048, progress=False)
    read_features(folder)
    before = time.process_time()
    read_features(folder)
    return time.process_time() - before


def medians(kinds: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each, interleaved."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, step in kinds.items():
            before = time.process_time()
            step()
            taken[name].append(time.process_time() - before)
    return {name: 1e3 * float(np.median(times)) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "features"
        seconds = written(folder)
        index, array = read_features(folder)
        rows = torch.arange(ROWS)
        mapped = Mapped(index.lonlat.float(), rows, array, folder, rows)
        kinds = {
            f"{profiles(1).shape[1]} numbers in memory": profiles(ROWS),
            f"{DIM} numbers in memory": array.clone(),
            f"{DIM} numbers in the file": mapped,
        }
        generator = torch.Generator().manual_seed(0)
        batch = torch.randperm(ROWS, generator=generator)[:BATCH]
        gathers = {name: lambda s=s: s[batch] for name, s in kinds.items()}
        steps = {name: training_step(batch=BATCH, samples=s) for name, s in kinds.items()}
        for step in steps.values():
            step()
        gathered, stepped = medians(gathers, chosen.rounds), medians(steps, chosen.rounds)
    table = Table("samples", "ms to gather", "ms a step", "ratio")
    first = next(iter(stepped.values()))
    for name in kinds:
        ratio = stepped[name] / first
        table.add_row(name, f"{gathered[name]:.2f}", f"{stepped[name]:.1f}", f"{ratio:.3f}")
    Console().print(table)
    print(f"reading {ROWS:,} rows of {DIM} features: {seconds:.2f} s")


if __name__ == "__main__":
    main()
