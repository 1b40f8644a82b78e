"""Time the encoders to use beside GeoCLIP and SatCLIP, and measure what int8 costs them.

    python benchmarks/family.py small=RUN/encoder base=RUN/encoder large=RUN/encoder \\
        --satclip path/to/satclip --output results/benchmarks_family.parquet

Each encoder embeds the same points, then a grid of the globe in blocks that are not kept. GeoCLIP
is used if it is installed. ``--satclip`` is a clone of SatCLIP's repository; it needs einops.
SatCLIP's architecture at L = 40 is also timed as locties computes it. Both are untrained, since the
time does not depend on the weights. GeoCLIP and SatCLIP embed one point or row in `PEERS_TAKE`, and
their times are scaled up. One thread is timed by processor time, several by wall-clock time.

A row's `ratio` is its time as a multiple of the first encoder's in the same round. `int8_largest`
and `int8_mean` compare the numbers of an embedding with those of the same encoder saved as int8;
`root_mean_square` is the size of such a number. A published encoder can be given by its name alone,
but is int8 already, so it is not compared.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from parts import encoder, places
from rich.console import Console
from rich.table import Table
from side_by_side import Work, conditions, measure, on_threads, satclip

import locties
from locties import LocationEncoder
from locties.apply.grid import POINTS_PER_BLOCK, embed_points, pixel_centres, rows_embedder
from locties.apply.metadata import Encoder
from locties.peers import PEERS
from locties.saved import FORMAT_INT8, read_config
from locties_paper import results
from locties_paper.site.notebook import commit

PEERS_TAKE = 50
COMPARED = 20_000  # places at which int8 is compared


class Contender(NamedTuple):
    """An encoder, which embeds one point or row in `take`."""

    encoder: Encoder
    take: int = 1


def contenders(family: dict[str, LocationEncoder], clone: Path | None) -> dict[str, Contender]:
    """The family, then its peers: GeoCLIP if it is installed, and SatCLIP's architecture."""
    found = {name: Contender(each) for name, each in family.items()}
    try:
        found["GeoCLIP"] = Contender(PEERS["geoclip"](), PEERS_TAKE)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    found["SatCLIP's architecture in locties"] = Contender(encoder().eval())
    if clone is not None:
        theirs = satclip(clone).build(40, 512).eval()
        found["SatCLIP"] = Contender(lambda lonlat: theirs(lonlat.double()), PEERS_TAKE)
    return found


def grid(one: Contender, resolution: float) -> Work:
    """Embed the rows of a global grid that a contender takes, as `locties.embed_grid` does."""
    lon, lat = pixel_centres(resolution)
    some, block = lat[:: one.take], max(1, POINTS_PER_BLOCK // len(lon))

    def work() -> None:
        embed = rows_embedder(one.encoder, lon)
        for start in range(0, len(some), block):
            embed(some[start : start + block])

    return work


def measured(
    found: dict[str, Contender], points: int, resolution: float, rounds: int
) -> pd.DataFrame:
    """Seconds of each contender for all points and for the whole grid."""
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    lonlat, height = places(points), len(pixel_centres(resolution)[1])
    cases: dict[str, tuple[int, int, Callable[[Contender], Work]]] = {
        "points": (
            points,
            points,
            lambda one: partial(embed_points, one.encoder, lonlat[:: one.take].contiguous()),
        ),
        "grid": (2 * height**2, height, lambda one: grid(one, resolution)),
    }
    tables = []
    for case, (size, whole, work_of) in cases.items():
        table = measure({name: work_of(one) for name, one in found.items()}, rounds, clock)
        share = np.array([len(range(0, whole, one.take)) / whole for one in found.values()])
        for column in ("seconds", "fastest", "slowest"):
            table[column] /= share
        times = np.stack(table.pop("times")) / share[:, None]
        table["ratio"] = [statistics.median(own / times[0]) for own in times]
        tables.append(table.assign(case=case, size=size, measured=share, threads=threads))
    return pd.concat(tables)


def int8_differences(given: dict[str, str], family: dict[str, LocationEncoder]) -> pd.DataFrame:
    """What saving as int8 changes in an embedding; encoders that are int8 already have no row."""
    rows, lonlat = [], places(COMPARED, seed=1)
    for name, full in family.items():
        if read_config(given[name])["format"] == FORMAT_INT8:
            print(f"{name} is saved as int8: not compared with float32", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            full.save(Path(folder, name), as_int8=True)
            rounded = locties.load(Path(folder, name))
        before, after = (embed_points(each, lonlat) for each in (full, rounded))
        off = np.abs(after - before)
        changed = {"int8_largest": off.max(), "int8_mean": off.mean()}
        size = np.sqrt(np.square(before).mean())
        rows.append({"contender": name, **changed, "root_mean_square": size})
    names = ["contender", "int8_largest", "int8_mean", "root_mean_square"]
    return pd.DataFrame(rows, columns=names)


def show(table: pd.DataFrame) -> None:
    for (threads, case, size), rows in table.groupby(["threads", "case", "size"], sort=False):
        columns = ("contender", "seconds", "fastest", "slowest", "ratio")
        printed = Table(*columns, title=f"{case}, {size:,}, threads: {threads}")
        for row in rows.itertuples():
            seconds = [f"{value:.2f}" for value in (row.seconds, row.fastest, row.slowest)]
            printed.add_row(row.contender, *seconds, f"{row.ratio:.2f}")
        Console().print(printed)
    printed = Table("contender", "largest", "mean", "root mean square", title="float32 to int8")
    for row in table.dropna(subset="int8_mean").drop_duplicates("contender").itertuples():
        values = (row.int8_largest, row.int8_mean, row.root_mean_square)
        printed.add_row(row.contender, *(f"{value:.2g}" for value in values))
    Console().print(printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "encoders", nargs="+", metavar="NAME[=FOLDER]", help="published, or of a folder"
    )
    parser.add_argument("--satclip", type=Path, help="a clone of SatCLIP's repository")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--resolution", type=float, default=0.1, help="of the grid, degrees")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    code, load = f"{locties.__version__}+{commit()}", os.getloadavg()[0]
    pairs = (text.partition("=") for text in chosen.encoders)
    given = {name: folder or name for name, _, folder in pairs}
    family = {name: locties.load(folder) for name, folder in given.items()}
    found = contenders(family, chosen.satclip)
    size = chosen.points, chosen.resolution, chosen.rounds
    table = pd.concat(
        on_threads(count, partial(measured, found, *size)) for count in chosen.threads
    )
    table = table.merge(int8_differences(given, family), how="left", on="contender").assign(
        code=code, **conditions(load, chosen.satclip)
    )
    show(table)
    if chosen.output:
        results.write_table(table, chosen.output)


if __name__ == "__main__":
    main()
