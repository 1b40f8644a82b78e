"""locties beside SatCLIP's own code and sphericart: interleaved, medians, spread, and the floor.

    python benchmarks/side_by_side.py --satclip path/to/satclip --output results/benchmarks.parquet

SatCLIP is a clone of its repository; it needs einops. sphericart is used where it is installed.
With one thread the clock is the processor time of this process, which leaves out waiting for other
programs; with more it is the wall's.
"""

import argparse
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from parts import PROFILE, encoder, places, profiles, training_step
from rich.console import Console
from rich.table import Table

from locties.grid import pixel_centres, stream_grid
from locties.harmonics import harmonics_as
from locties.lonlat import to_xyz
from locties.modalities import profile_encoder

Work = Callable[[], Any]
TURN = 0.1  # seconds


def measure(contenders: dict[str, Work], rounds: int, clock: Callable[[], float]) -> pd.DataFrame:
    """Seconds of each, in rounds that take every contender in turn, after one that sets the pace.

    What takes less than `TURN` seconds is repeated within its turn.
    """
    repeats = {}
    for name, work in contenders.items():
        start = clock()
        work()
        repeats[name] = max(1, round(TURN / max(clock() - start, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            start = clock()
            for _ in range(repeats[name]):
                work()
            seconds[name].append((clock() - start) / repeats[name])
    return pd.DataFrame(
        {
            "contender": name,
            "seconds": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "rounds": rounds,
        }
        for name, times in seconds.items()
    )


def calibrate(clock: Callable[[], float]) -> dict[str, float]:
    """What the machine can do: float32 and float64 products a second, bytes copied a second."""

    def best(work: Work) -> float:
        times = []
        for _ in range(7):
            start = clock()
            work()
            times.append(clock() - start)
        return min(times)

    rates = {}
    for name, dtype in (("flops_float32", torch.float32), ("flops_float64", torch.float64)):
        a, b = (torch.randn(1024, 1024, dtype=dtype) for _ in range(2))
        rates[name] = 2 * 1024**3 / best(lambda a=a, b=b: a @ b)
    source, target = torch.zeros(2, 64 * 2**20, dtype=torch.uint8)
    rates["bytes_per_second"] = 2 * source.nbytes / best(lambda: target.copy_(source))
    return rates


# ------------------------------------------------------------------------------------- the peers


def satclip(folder: Path) -> SimpleNamespace:
    """SatCLIP's modules, imported from a clone."""
    sys.path.insert(0, str(folder / "satclip"))
    code = importlib.import_module("location_encoder")
    loss = importlib.import_module("loss").SatCLIPLoss

    def build(degree: int, hidden: int) -> torch.nn.Module:
        features = code.get_positional_encoding("sphericalharmonics", legendre_polys=degree)
        network = code.get_neural_network("siren", degree**2, dim_hidden=hidden)
        return code.LocationEncoder(features, network).double()

    def step(batch: int) -> Work:
        """Its forward, loss and optimiser, with a profile encoder in place of the images'."""
        location, samples, lonlat = build(40, 512).train(), profiles(20_000), places(20_000)
        network, loss_of = profile_encoder(PROFILE)(256), loss()
        scale = torch.nn.Parameter(torch.tensor(1 / 0.07).log())
        parameters = [*location.parameters(), *network.parameters(), scale]
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)

        def one() -> None:
            index = torch.randint(len(samples), (batch,))
            optimiser.zero_grad()
            z, e = network(samples[index]), location(lonlat[index]).float()
            z, e = (v / v.norm(dim=1, keepdim=True) for v in (z, e))
            logits = scale.exp() * z @ e.t()
            loss_of(logits, logits.t()).backward()
            optimiser.step()

        return one

    return SimpleNamespace(build=build, step=step)


def sphericart(degree: int) -> Callable[[torch.Tensor], Any] | None:
    try:
        peer = importlib.import_module("sphericart.torch")
    except ImportError:
        return None
    harmonics = peer.SphericalHarmonics(degree - 1)
    return lambda lonlat: harmonics.compute(to_xyz(lonlat))


# ------------------------------------------------------------------------------------- the cases


def floor(flops: float, moved: float, rates: dict[str, float], kind: str = "float32") -> dict:
    """The time below which this machine cannot do it: arithmetic or memory, whichever is more."""
    arithmetic, memory = flops / rates[f"flops_{kind}"], moved / rates["bytes_per_second"]
    limit = "arithmetic" if arithmetic > memory else "memory"
    return {"flops": flops, "bytes": moved, "floor": max(arithmetic, memory), "limit": limit}


def of_harmonics(n: int, degree: int, rates: dict[str, float]) -> dict:
    # Five float64 operations a value. A product does two an instruction and element-wise code one,
    # so half of the rate of products. Memory: the float32 result alone.
    return floor(2 * 5 * n * degree**2, 4 * n * degree**2, rates, "float64")


def network_flops(n: int, degree: int, hidden: int) -> float:
    return 2.0 * n * (degree**2 * hidden + hidden**2 + hidden * 256)


def of_step(n: int, degree: int, rates: dict[str, float]) -> dict:
    # Forward, and twice that backward, less the gradient of the features; three products of the
    # loss. Memory: features written and read twice.
    location = 3 * network_flops(n, degree, 512) - 2.0 * n * degree**2 * 512
    sample = 3 * 2.0 * n * (PROFILE * 256 + 2 * 256 * 256)
    flops = location + sample + 3 * 2.0 * n * n * 256
    return floor(flops, 3 * 4.0 * n * degree**2, rates)


def of_grid(n: int, degree: int, hidden: int, rates: dict[str, float]) -> dict:
    # With the first layer's weights folded, a row costs W x (2L - 1) products a hidden unit.
    flops = 2.0 * n * ((2 * degree - 1) * hidden + hidden**2 + hidden * 256)
    return floor(flops, 4.0 * n * 256, rates)


def harmonics(peer, clock, rates, rounds) -> pd.DataFrame:
    tables = []
    for n, some in ((2048, rounds), (100_000, 1)):
        lonlat, other = places(n), sphericart(40)
        contenders: dict[str, Work] = {"locties": partial(harmonics_as, lonlat, 40, torch.float32)}
        contenders["locties float64"] = partial(harmonics_as, lonlat, 40, torch.float64)
        if other is not None:
            contenders["sphericart float64"] = partial(other, lonlat)
        if peer is not None:
            features = peer.build(40, 8).posenc
            contenders["SatCLIP analytic"] = partial(features, lonlat)
        table = measure(contenders, some, clock)
        tables.append(table.assign(case="harmonics", size=n, **of_harmonics(n, 40, rates)))
    return pd.concat(tables)


def steps(peer, clock, rates, rounds) -> pd.DataFrame:
    contenders: dict[str, Work] = {
        "locties": training_step(),
        "locties bfloat16": training_step(bfloat16=True),
        "locties MELT of three": training_step(3),
    }
    if peer is not None:
        contenders["SatCLIP"] = peer.step(2048)
    table = measure(contenders, max(3, rounds // 2), clock)
    return table.assign(case="step", size=2048, **of_step(2048, 40, rates))


def grid(peer, clock, rates, rounds) -> pd.DataFrame:
    """0.25 degrees; others than the separable form do some rows, and their time is scaled."""
    lon, lat = pixel_centres(0.25)
    ours = encoder(hidden=256).eval()

    def rows(function: Callable, count: int) -> Work:
        some = torch.as_tensor(lat[:: len(lat) // count][:count])
        lonlat = torch.cartesian_prod(some, torch.as_tensor(lon)).flip(1)
        return torch.no_grad()(lambda: [function(part) for part in lonlat.split(16_384)])

    def whole() -> None:
        for _ in stream_grid(ours, 0.25):
            pass

    counts = {"locties": len(lat), "locties point by point": 20}
    contenders = {"locties": whole, "locties point by point": rows(ours, 20)}
    if peer is not None:
        counts["SatCLIP"] = 4
        contenders["SatCLIP"] = rows(peer.build(40, 256).eval(), 4)
    table = measure(contenders, 1, clock)
    share = table["contender"].map(counts) / len(lat)
    for column in ("seconds", "fastest", "slowest"):
        table[column] /= share
    n = len(lon) * len(lat)
    return table.assign(case="grid", size=n, measured=share, **of_grid(n, 40, 256, rates))


def growth(peer, clock, rates, rounds) -> pd.DataFrame:
    """How the time of locties grows with each size, the others held."""
    tables = []

    def add(case: str, size: int, work: Work, bound: dict) -> None:
        table = measure({"locties": work}, 2, clock)
        tables.append(table.assign(case=case, size=size, **bound))

    for n in (512, 2048, 8192, 32_768):
        work = partial(harmonics_as, places(n), 40, torch.float32)
        add("harmonics by points", n, work, of_harmonics(n, 40, rates))
    for degree in (10, 20, 40, 80):
        work = partial(harmonics_as, places(2048), degree, torch.float32)
        add("harmonics by L", degree, work, of_harmonics(2048, degree, rates))
    for batch in (512, 1024, 2048, 4096):
        add("step by batch", batch, training_step(batch=batch), of_step(batch, 40, rates))
    for count in (1, 2, 3, 4):
        add("step by modalities", count, training_step(count), of_step(2048, 40, rates))
    for degree in (10, 20, 40):
        add("step by L", degree, training_step(degree=degree), of_step(2048, degree, rates))
    return pd.concat(tables)


CASES = {"harmonics": harmonics, "step": steps, "grid": grid, "growth": growth}


def processor() -> str:
    found = [
        line.partition(":")[2].strip()
        for line in (
            Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
        )
        if line.startswith("model name")
    ]
    return found[0] if found else platform.processor()


def show(table: pd.DataFrame) -> None:
    for case, rows in table.groupby("case", sort=False):
        shown = Table(title=case)
        for column in (
            "size",
            "contender",
            "ms",
            "fastest",
            "slowest",
            "ratio",
            "x floor",
            "limit",
        ):
            shown.add_column(column, justify="left" if column == "contender" else "right")
        for row in rows.itertuples():
            times = [f"{1000 * t:,.2f}" for t in (row.seconds, row.fastest, row.slowest)]
            values = [f"{row.ratio:.2f}", f"{row.seconds / row.floor:.1f}", row.limit]
            shown.add_row(f"{row.size:,}", row.contender, *times, *values)
        Console().print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--satclip", type=Path, help="a clone of SatCLIP's repository")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    peer = satclip(chosen.satclip) if chosen.satclip else None
    rates = calibrate(clock)
    load = os.getloadavg()[0]
    tables = [CASES[name](peer, clock, rates, chosen.rounds) for name in chosen.cases]
    table = pd.concat(tables, ignore_index=True)
    # How many times as long as locties takes for the same.
    own = table[table["contender"] == "locties"].set_index(["case", "size"])["seconds"]
    keys = pd.MultiIndex.from_frame(table[["case", "size"]])
    table["ratio"] = table["seconds"] / own.reindex(keys).to_numpy()
    table = table.assign(
        **rates,
        threads=chosen.threads,
        clock="processor" if clock is time.process_time else "wall",
        machine=processor(),
        cores=os.cpu_count(),
        load=f"{load:.1f} to {os.getloadavg()[0]:.1f}",
        torch=torch.__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    show(table)
    if chosen.output:
        aside = chosen.output.with_name(f".{chosen.output.name}.part")
        table.to_parquet(aside, index=False)
        aside.replace(chosen.output)


if __name__ == "__main__":
    main()
