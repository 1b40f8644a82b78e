"""Kill work of several kinds at random moments, and resume it.

    python benchmarks/kills.py --kills 20 --output results/kills.parquet

Each kind of work first runs without a kill, which gives its duration and its result. Then, for each
kill, it starts in an empty folder, is killed with all its processes (SIGKILL), and is started
again. The kills are spread over the whole duration. The result must be the same bit for bit. The
table also shows how much was on disk at the kill, so one can see how many runs resumed. The system
must be able to fork.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from parts import PROFILE, encoder, places, profiles
from rich.console import Console
from rich.table import Table
from side_by_side import processor
from torch.utils._pytree import tree_leaves_with_path

import locties
from locties.data.frozen import features
from locties.data.frozen_encoders import of_module
from locties.data.sentinel2 import Chips
from locties.modality import Modality, profile_encoder
from locties.training.checkpoint import load_state
from locties_paper import results
from locties_paper.site.notebook import REPOSITORY, commit

sys.path.append(str(REPOSITORY / "tests"))
from pipeline import kill, lay_out, snakemake
from s2_files import backbone, tiff, write_index, write_shard

fork = multiprocessing.get_context("fork")  # imports take longer than the work


class Kind(NamedTuple):
    """A kind of work.

    Attributes:
        name: its name in the table.
        work: starts or resumes it in a folder.
        reached: how much is safe on disk in that folder; 0 if it would start from the beginning.
        result: a hash of its output.
    """

    name: str
    work: Callable[[Path], object]
    reached: Callable[[Path], int]
    result: Callable[[Path], str]


def hash_of(parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else repr(part).encode())
    return whole.hexdigest()


def files(folder: Path, *left_out: str) -> str:
    """Hash of all files, with their names, except paths that contain one of `left_out`."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    names = {file: str(file.relative_to(folder)) for file in found}
    kept = [file for file in found if not any(part in names[file] for part in left_out)]
    return hash_of(part for file in kept for part in (names[file], file.read_bytes()))


def rounds(kind: Kind, kills: int, folder: Path, seed: int = 0) -> pd.DataFrame:
    """A row for each kill.

    Args:
        kind: of work.
        kills: number of kills, each in a fresh folder.
        folder: an empty folder.
        seed: of the moments.

    Returns:
        Columns kind, second (time of the kill), length (seconds without a kill), reached, resumed
        (whether there was anything on disk to resume from) and identical.
    """

    def begin(where: Path) -> multiprocessing.Process:
        where.mkdir(exist_ok=True)
        process = fork.Process(target=kind.work, args=(where,))
        process.start()
        return process

    def end(process: multiprocessing.Process) -> None:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"{kind.name} failed with exit code {process.exitcode}")

    start = time.perf_counter()
    end(begin(folder / "whole"))
    length = time.perf_counter() - start
    whole, chance, rows = kind.result(folder / "whole"), random.Random(seed), []
    while len(rows) < kills:
        where = folder / f"{len(rows)}"
        moment = (len(rows) + chance.random()) / kills * length
        while True:
            process = begin(where)
            process.join(moment)
            if process.is_alive():
                kill(process.pid, process.join)
            if process.exitcode == -signal.SIGKILL:
                break
            end(process)  # it finished before the kill: kill earlier
            where, moment = where.with_name(f"{where.name}-again"), 0.9 * moment
        reached = kind.reached(where)
        end(begin(where))
        same = kind.result(where) == whole
        row = {"kind": kind.name, "second": moment, "length": length}
        rows.append({**row, "reached": reached, "resumed": reached > 0, "identical": same})
        said = "the same" if same else "NOT the same"
        print(f"{kind.name}: killed after {moment:.1f} of {length:.1f} s at {reached}: {said}")
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------- the kinds


def training(schedule: str) -> Kind:
    """Two modalities of profiles, 50 states in all."""

    def work(folder: Path) -> None:
        torch.set_num_threads(1)
        held_out = places(200, seed=1).float()
        modalities = []
        for seed, name in enumerate(("west", "east")):
            half = torch.tensor([(-90.0, 90.0)[seed], 0.0])  # the modalities share no cell
            lonlat = places(2000, seed).float() * torch.tensor([0.4, 0.9]) + half
            validation = Modality(name, held_out, profiles(200, 9), profile_encoder(PROFILE))
            samples = profiles(2000, seed)
            modalities.append(Modality(name, lonlat, samples, validation.encoder, validation))
        locties.pretrain(
            *(schedule, modalities, encoder(degree=10, hidden=64, dim=32)),
            **{"pairs": 256 * 500, "batch": 256, "epochs": 50, "samples": 2000, "device": "cpu"},
            checkpoint=folder,
            progress=False,
        )

    def state(folder: Path) -> Any:
        path = folder / "state.pt"
        return load_state(path)["state"] if path.exists() else {"progress": {"step": 0}}

    def result(folder: Path) -> str:
        """Hash of weights, moments, generators and history, without the times."""
        leaves = tree_leaves_with_path(state(folder))
        kept = [(str(path), leaf) for path, leaf in leaves if "seconds" not in str(path)]
        return hash_of(
            part
            for path, leaf in kept
            for part in (path, leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else leaf)
        )

    name = f"training, {schedule.upper()}"
    return Kind(name, work, lambda folder: state(folder)["progress"]["step"], result)


def chips(source: Path) -> Kind:
    """Features of 240 chips in two shards, a batch of two at a time."""
    names = [f"patch_{i}.tif" for i in range(240)]
    index = write_index(
        source / "index.csv", {name: (i / 2, i / 4) for i, name in enumerate(names)}
    )
    shards = []
    for n, part in enumerate((names[:120], names[120:])):
        content = {name: tiff(i % 40) for i, name in enumerate(part)}
        shards.append(write_shard(source / f"shard-{n}.tar", content))

    def work(folder: Path) -> None:
        torch.set_num_threads(1)
        encoder = of_module(backbone(), "net", device="cpu")
        features(Chips(shards, index), encoder, folder, batch=2, progress=False)

    def reached(folder: Path) -> int:
        path = folder / "manifest.json"
        return json.loads(path.read_text())["rows"] if path.exists() else 0

    return Kind(
        "Sentinel-2 features", work, reached, lambda folder: files(folder, ".lock", ".holder")
    )


def export(suffix: str) -> Kind:
    """The Earth at half a degree, in 18 tiles."""

    def work(folder: Path) -> None:
        torch.set_num_threads(1)
        made = encoder(degree=20, hidden=128, dim=32)
        locties.export_grid(made, folder / f"grid.{suffix}", 0.5, progress=False)

    def reached(folder: Path) -> int:
        notes = folder.rglob(".locties/note.json")
        return sum(len(json.loads(note.read_text())["done"]) for note in notes)

    return Kind(f"grid, {suffix}", work, reached, lambda folder: files(folder, ".locties"))


def book() -> Kind:
    """A run of 50 states and its evaluation, as jobs of the pipeline."""
    run, table = "_build/smoke/run", "_build/smoke/scores.parquet"

    def work(folder: Path) -> None:
        if not (folder / "Snakefile").exists():
            lay_out(folder)
            longer = {"pretrain": {"pairs": 256 * 600, "epochs": 50}}
            (folder / "experiments.yaml").write_text(yaml.safe_dump({"smoke": longer}))
        flags = ["--nolock", "--cores", "1", "--rerun-incomplete", "--config", "profile=smoke"]
        process = snakemake(folder, *flags, "--", table)
        printed, _ = process.communicate()
        if process.returncode:
            sys.exit(printed)

    def reached(folder: Path) -> int:
        if (history := folder / run / "history.parquet").exists():
            return int(pd.read_parquet(history)["step"].max())
        state = folder / run / "checkpoint" / "state.pt"
        return load_state(state)["state"]["progress"]["step"] if state.exists() else 0

    def result(folder: Path) -> str:
        tables = [pd.read_parquet(folder / path) for path in (f"{run}/history.parquet", table)]
        values = [frame.drop(columns="seconds").to_csv() for frame in tables]
        return hash_of([*values, files(folder / run / "encoder")])

    return Kind("book", work, reached, result)


def show(table: pd.DataFrame) -> None:
    printed = Table("", "kills", "with something on disk", "identical")
    for kind, rows in table.groupby("kind", sort=False):
        counts = (len(rows), rows["resumed"].sum(), rows["identical"].sum())
        printed.add_row(kind, *map(str, counts))
    Console().print(printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of kills of each kind")
    parser.add_argument("--kinds", default=".*", help="a regular expression for the names of kinds")
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    commit()  # read it now: files may change during the run
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "chips")
        source.mkdir()
        kinds = [
            *(training("melt"), training("salt"), chips(source)),
            *(export("zarr"), export("tif"), book()),
        ]
        tables = []
        wanted = [kind for kind in kinds if re.search(chosen.kinds, kind.name)]
        if not wanted:
            parser.error(f"--kinds {chosen.kinds!r} is none of {[kind.name for kind in kinds]}")
        for kind in wanted:
            folder = Path(name, str(len(tables)))
            folder.mkdir()
            tables.append(rounds(kind, chosen.kills, folder))
    table = pd.concat(tables, ignore_index=True)
    show(table)
    if chosen.output:
        where = {"machine": processor(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        settings = {"kills": chosen.kills, "kinds": chosen.kinds}
        results.write(table.assign(**where), chosen.output, settings)
    if not table["identical"].all():
        sys.exit("a result differs")


if __name__ == "__main__":
    main()
