"""Time `locties embed` on a Parquet file beside the encoder alone, and measure its peak memory.

    python benchmarks/embed_rows.py --rows 10000000 --encoder melt --rounds 1

A round times the encoder alone on some of the points, then the command, then the encoder alone
again. The command runs in a process of its own with the same number of torch threads. Imports are
not timed. `share` is the encoder's share of the command's wall-clock time, in which a second core
writes. `share_of_cpu` is its share of processor time, which one core alone would show.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from locties.apply import parts
from locties.apply.grid import embed_points
from locties.apply.metadata import resolve
from locties.cli.embed import embed

ALONE = 2**18  # points


def write_places(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(
        path, pa.schema({"id": "int64", "lon": "float64", "lat": "float64"})
    ) as file:
        for start in range(0, rows, 2**20):
            n = min(2**20, rows - start)
            lon, lat = rng.uniform(-180, 180, n), rng.uniform(-90, 90, n)
            ids = np.arange(start, start + n)
            file.write_table(pa.table({"id": ids, "lon": lon, "lat": lat}))


def alone(encoder: str) -> np.ndarray:
    """Seconds to embed one point in memory: wall-clock and processor time."""
    function, _ = resolve(encoder)
    lonlat = torch.rand(ALONE, 2, generator=torch.Generator().manual_seed(0)) * 170 - 85
    embed_points(function, lonlat[: parts.ROWS])
    start = np.array([time.perf_counter(), time.process_time()])
    for points in lonlat.split(parts.ROWS):
        embed_points(function, points)
    return (np.array([time.perf_counter(), time.process_time()]) - start) / ALONE


def command(encoder: str, source: str, output: str, threads: int, reply: Connection) -> None:
    import locties.apply.append  # noqa: F401  imports are not timed

    torch.set_num_threads(threads)
    start = np.array([time.perf_counter(), time.process_time()])
    embed(encoder, source, output)
    seconds = np.array([time.perf_counter(), time.process_time()]) - start
    reply.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--encoder", default="melt")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "places.parquet"), Path(folder, "embedded.parquet")
        write_places(source, asked.rows)
        for _ in range(asked.rounds):
            before, (reply, child) = alone(asked.encoder), context.Pipe()
            threads = torch.get_num_threads()
            arguments = asked.encoder, str(source), str(output), threads, child
            process = context.Process(target=command, args=arguments)
            process.start()
            seconds, megabytes = reply.recv()
            process.join()
            own, all_rows = (before + alone(asked.encoder)) / 2, seconds / asked.rows
            result = {"rows": asked.rows, "threads": threads, "rows_s": round(1 / all_rows[0])}
            result |= {"alone_rows_s": round(1 / own[0]), "share": round((own / all_rows)[0], 3)}
            result |= {"share_of_cpu": round((own / all_rows)[1], 3), "peak_mb": round(megabytes)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
