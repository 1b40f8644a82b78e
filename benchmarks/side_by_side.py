"""locties beside SatCLIP's own code and sphericart: interleaved, medians, spread, and the floor.

    python benchmarks/side_by_side.py --satclip path/to/satclip --output results/benchmarks.parquet

SatCLIP is a clone of its repository; it needs einops. sphericart and pytorch-lightning are used
where they are installed; with the latter, SatCLIP's step is also taken in the loop that its authors
use, over the same data in memory. The clock is the processor time of a process, which leaves out
waiting for other programs; where several threads share the work it is the wall's.
"""

import argparse
import importlib
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
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

import locties
from locties.grid import pixel_centres, stream_grid
from locties.harmonics import harmonics_as
from locties.lonlat import to_xyz
from locties.modalities import Modality, profile_encoder

Work = Callable[[], Any]
TURN = 0.1  # seconds
LIGHTNING_STEPS = 2  # timed together


def measure(contenders: dict[str, Work], rounds: int, clock: Callable[[], float]) -> pd.DataFrame:
    """Seconds of each, in rounds that take every contender in turn, after one that sets the pace.

    What takes less than `TURN` seconds is repeated within its turn. Work that returns a number has
    taken its own time.
    """

    def timed(work: Work) -> float:
        start = clock()
        own = work()
        return own if isinstance(own, float) else clock() - start

    repeats = {
        name: max(1, round(TURN / max(timed(work), 1e-6))) for name, work in contenders.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            turn = [timed(work) for _ in range(repeats[name])]
            seconds[name].append(sum(turn) / len(turn))
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
    """What the machine can do: operations of matrix products a second, bytes copied a second."""

    def best(work: Work) -> float:
        times = []
        for _ in range(7):
            start = clock()
            work()
            times.append(clock() - start)
        return min(times)

    rates = {}
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        a, b = (torch.randn(1024, 1024, dtype=dtype) for _ in range(2))
        rates[f"flops_{str(dtype).removeprefix('torch.')}"] = (
            2 * 1024**3 / best(lambda a=a, b=b: a @ b)
        )
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

    def parts() -> tuple[list, Callable]:
        """What its step trains, and its loss of a batch; profiles stand in for images."""
        location, network, loss_of = build(40, 512).train(), profile_encoder(PROFILE)(256), loss()
        scale = torch.nn.Parameter(torch.tensor(1 / 0.07).log())

        def batch_loss(samples: torch.Tensor, lonlat: torch.Tensor) -> torch.Tensor:
            z, e = network(samples), location(lonlat).float()
            z, e = (v / v.norm(dim=1, keepdim=True) for v in (z, e))
            logits = scale.exp() * z @ e.t()
            return loss_of(logits, logits.t())

        return [*location.parameters(), *network.parameters(), scale], batch_loss

    def step(batch: int) -> Work:
        """Its forward, loss and optimiser, with a batch by index."""
        (parameters, batch_loss), samples, lonlat = parts(), profiles(20_000), places(20_000)
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)

        def one() -> None:
            index = torch.randint(len(samples), (batch,))
            optimiser.zero_grad()
            batch_loss(samples[index], lonlat[index]).backward()
            optimiser.step()

        return one

    def lightning_step(batch: int, clock: Callable[[], float]) -> Work | None:
        """The same in Lightning's loop with its data loader: seconds of one of a few steps."""
        try:
            lightning = importlib.import_module("pytorch_lightning")
        except ImportError:
            return None
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        parameters, batch_loss = parts()

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.learned = torch.nn.ParameterList(parameters)
                self.started: list[float] = []

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                return batch_loss(*batch)

            def on_train_batch_start(self, *_: Any) -> None:
                self.started.append(clock())

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), lr=1e-4)

        data = torch.utils.data.TensorDataset(profiles(20_000), places(20_000))
        loader = torch.utils.data.DataLoader(data, batch, shuffle=True, drop_last=True)
        module, quiet = Module(), ("logger", "enable_checkpointing", "enable_progress_bar")

        def few() -> float:
            module.started.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lightning.Trainer(
                    max_steps=LIGHTNING_STEPS + 1,
                    accelerator="cpu",
                    enable_model_summary=False,
                    **dict.fromkeys(quiet, False),
                ).fit(module, loader)
            # From the start of a step to that of the next: loading, and all that the loop does.
            return (module.started[-1] - module.started[0]) / LIGHTNING_STEPS

        return few

    return SimpleNamespace(build=build, step=step, lightning_step=lightning_step)


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


def of_step(
    n: int, degree: int, rates: dict[str, float], encoders: str = "float32", processes: int = 1
) -> dict:
    # Forward, and twice that backward, less the gradient of the features; three products of the
    # loss, always in float32 and whole in every process. Memory: features written and read twice.
    location = 3 * network_flops(n, degree, 512) - 2.0 * n * degree**2 * 512
    sample = 3 * 2.0 * n * (PROFILE * 256 + 2 * 256 * 256) - 2.0 * n * PROFILE * 256
    loss = 3 * 2.0 * n * n * 256
    share = (location + sample) / processes
    bound = floor(share, 3 * 4.0 * n * degree**2 / processes, rates, encoders)
    return bound | {
        "flops": share + loss,
        "floor": bound["floor"] + loss / rates["flops_float32"],
    }


def of_grid(n: int, degree: int, hidden: int, rates: dict[str, float]) -> dict:
    # With the first layer's weights folded, a row costs W x (2L - 1) products a hidden unit.
    flops = 2.0 * n * ((2 * degree - 1) * hidden + hidden**2 + hidden * 256)
    return floor(flops, 4.0 * n * 256, rates)


def harmonics(peer, clock, rates, rounds) -> pd.DataFrame:
    tables = []
    for n, some in ((2048, rounds), (100_000, max(1, rounds // 3))):
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
        in_its_loop = peer.lightning_step(2048, clock)
        if in_its_loop is not None:
            contenders["SatCLIP in Lightning"] = in_its_loop
    table = measure(contenders, rounds, clock).assign(case="step", size=2048)
    bounds = pd.DataFrame(
        of_step(2048, 40, rates, "bfloat16" if name == "locties bfloat16" else "float32")
        for name in table["contender"]
    )
    return pd.concat([table, bounds], axis=1)


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
    table = measure(contenders, max(1, rounds // 3), clock)
    share = table["contender"].map(counts) / len(lat)
    for column in ("seconds", "fastest", "slowest"):
        table[column] /= share
    n = len(lon) * len(lat)
    return table.assign(case="grid", size=n, measured=share, **of_grid(n, 40, 256, rates))


def growth(peer, clock, rates, rounds) -> pd.DataFrame:
    """How the time of locties grows with each size, the others held."""
    tables = []

    def add(
        case: str, size: int, work: Work, bound: dict, by: Callable = clock, some: int = 3
    ) -> None:
        table = measure({"locties": work}, some, by)
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
    for count in (1, 2):
        bound = of_step(2048, 40, rates, processes=count)
        add("step by processes", count, partial(in_processes, count), bound, some=1)
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        bound = of_step(2048, 40, {name: count * rate for name, rate in rates.items()})
        add("step by threads", count, training_step(), bound, time.perf_counter)
    torch.set_num_threads(threads)
    return pd.concat(tables)


def in_processes(count: int) -> float:
    """Processor seconds of a step of `locties.pretrain`, in whichever of `count` has the most."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_train, (count, folder), nprocs=count)
        return max(float(file.read_text()) for file in Path(folder).glob("seconds-*"))


def _train(rank: int, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    if count > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
        )
    data = Modality("profiles", places(20_000), profiles(20_000), profile_encoder(PROFILE))
    taken = {}
    for steps in (1, 1, 5):  # to warm up; then what a run takes beside its steps is in both
        start = time.process_time()
        locties.pretrain(
            "melt", [data], encoder(), pairs=2048 * steps, batch=2048, epochs=1, progress=False
        )
        taken[steps] = time.process_time() - start
    Path(folder, f"seconds-{rank}").write_text(str((taken[5] - taken[1]) / 4))


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
