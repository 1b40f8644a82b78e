"""Time locties beside SatCLIP's own code and sphericart: medians, spread and the floor.

    python benchmarks/side_by_side.py --satclip path/to/satclip --output results/benchmarks.parquet

``--satclip`` is a clone of SatCLIP's repository; it needs einops. sphericart and pytorch-lightning
are used if they are installed; a message names what is missing. With Lightning, SatCLIP's step also
runs in its authors' loop, over the same data in memory. Everything is timed on one thread and on
torch's default, one thread a core. One thread is timed by processor time, which does not count
waiting for other programs; several threads or processes are timed by wall-clock time.
``<output>_goals.parquet`` gets each goal and whether it is met, ``<output>_step.parquet`` the parts
of a step.
"""

import argparse
import importlib
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from counts import count
from goals import judge
from loss_memory import pairs_of
from parts import PROFILE, encoder, places, profiles, training_step
from rich.console import Console
from rich.table import Table
from shares import milliseconds
from threadpoolctl import threadpool_limits

import locties
from locties._util.matmul import ByOneDNN
from locties.apply.grid import embed_points, pixel_centres, stream_grid
from locties.harmonics import harmonics_as
from locties.lonlat import to_xyz
from locties.modality import Modality, profile_encoder
from locties.objectives import DIRECTIONS, nt_xent
from locties_paper.site.notebook import commit

Work = Callable[[], Any]
TURN, SHORT = 0.3, 1.0  # seconds
LIGHTNING_STEPS = 2  # timed together, after one untimed step
POINTS, BATCH, RESOLUTION, LOSS_PAIRS = (2048, 100_000), 2048, 0.25, 32_768
SPHERICART = {"sphericart float64": True, "sphericart float64, 4 kB pages": False}
GROWTH = {
    "harmonics by points": (512, 2048, 8192, 32_768),
    "harmonics by L": (10, 20, 40, 80),
    "loss by batch": (1024, 4096, 16_384),
    "step by batch": (512, 1024, 2048, 4096),
    "step by modalities": (1, 2, 3, 4),
    "step by L": (10, 20, 40),
    "step by threads": (1, 2),
    "step by processes": (1, 2),
}
PARTS, STEPS = 6, 2  # of a run in several processes: timed parts, and steps of each


def measure(contenders: dict[Any, Work], rounds: int, clock: Callable[[], float]) -> pd.DataFrame:
    """Seconds of each contender. Each round runs all of them in turn.

    Work shorter than `TURN` seconds is repeated within its turn. Work shorter than `SHORT` first
    runs once untimed; otherwise it would pay for memory that the contender before it released. Work
    that returns a number has timed itself. Column `times` has the time of each round.
    """

    def timed(work: Work) -> tuple[float, bool]:
        start = clock()
        own = work()
        return (own, True) if isinstance(own, float) else (clock() - start, False)

    repeats, settled = {}, {}
    for name, work in contenders.items():
        taken, own = timed(work)
        settled[name] = own or taken > SHORT
        if not settled[name]:
            taken, _ = timed(work)
        repeats[name] = 1 if own else max(1, round(TURN / max(taken, 1e-6)))
    seconds: dict[Any, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            if not settled[name]:
                work()
            turn = [timed(work)[0] for _ in range(repeats[name])]
            seconds[name].append(sum(turn) / len(turn))
    return pd.DataFrame(
        {
            "contender": name,
            "seconds": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "rounds": rounds,
            "times": times,
            "clock": "processor" if clock is time.process_time else "wall",
        }
        for name, times in seconds.items()
    )


def calibrate(clock: Callable[[], float]) -> dict[str, float]:
    """Rates of this machine: operations of matrix products a second, bytes copied a second.

    Uses torch's current number of threads; float32 uses the faster of its two libraries.
    """

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
        product = partial(torch.matmul, a, b)
        seconds = min(best(product), best(ByOneDNN()(product)))
        rates[f"flops_{str(dtype).removeprefix('torch.')}"] = 2 * 1024**3 / seconds
    source, target = torch.zeros(2, 64 * 2**20, dtype=torch.uint8)
    rates["bytes_per_second"] = 2 * source.nbytes / best(lambda: target.copy_(source))
    return rates


# ------------------------------------------------------------------------------------- the peers


@cache
def installed(name: str) -> Any | None:
    """A peer's module, or None. The first call prints a line if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # a package that it needs is missing
            raise
        print(f"{name} is not installed: left out", file=sys.stderr)
        return None


def peers(clone: Path | None) -> str:
    """The versions of the peers that were measured."""
    said = []
    if clone:
        call = ["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]
        head = subprocess.run(call, capture_output=True, text=True)
        said.append(f"SatCLIP {head.stdout.strip() or 'of unknown commit'}")
    for name in ("sphericart", "pytorch-lightning"):
        with suppress(metadata.PackageNotFoundError):
            said.append(f"{name} {metadata.version(name)}")
    return ", ".join(said)


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
        """What SatCLIP's step trains, and its loss on a batch. Profiles stand in for images."""
        location, network, loss_of = build(40, 512).train(), profile_encoder(PROFILE)(256), loss()
        scale = torch.nn.Parameter(torch.tensor(1 / 0.07).log())

        def batch_loss(samples: torch.Tensor, lonlat: torch.Tensor) -> torch.Tensor:
            z, e = network(samples), location(lonlat).float()
            z, e = (v / v.norm(dim=1, keepdim=True) for v in (z, e))
            logits = scale.exp() * z @ e.t()
            return loss_of(logits, logits.t())

        return [*location.parameters(), *network.parameters(), scale], batch_loss

    def step(batch: int) -> Work:
        """A step: forward pass, loss and optimiser, with batches taken by index."""
        (parameters, batch_loss), samples, lonlat = parts(), profiles(20_000), places(20_000)
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)

        def one() -> None:
            index = torch.randint(len(samples), (batch,))
            optimiser.zero_grad()
            batch_loss(samples[index], lonlat[index]).backward()
            optimiser.step()

        return one

    def lightning_step(batch: int, clock: Callable[[], float]) -> Work | None:
        """Seconds of one step in Lightning's loop with its data loader, from a few steps."""
        if (lightning := installed("pytorch_lightning")) is None:
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
                    max_steps=LIGHTNING_STEPS + 2,
                    accelerator="cpu",
                    enable_model_summary=False,
                    **dict.fromkeys(quiet, False),
                ).fit(module, loader)
            # From the start of a step to the start of the next: this includes loading and the loop.
            return (module.started[-1] - module.started[1]) / LIGHTNING_STEPS

        return few

    return SimpleNamespace(build=build, step=step, lightning_step=lightning_step)


def sphericart(degree: int, large_pages: bool) -> Callable[[torch.Tensor], Any] | None:
    """sphericart's harmonics, by its NumPy interface; its torch build fits only one torch version.

    For a large array NumPy asks Linux for pages of 2 MB in place of 4 kB. They are faster if memory
    is in one piece, and can cost seconds if it is not. torch does not ask for them.
    """
    if (module := installed("sphericart")) is None:
        return None
    with threadpool_limits(torch.get_num_threads(), "openmp"):  # sphericart reads the number once
        harmonics = module.SphericalHarmonics(degree - 1)

    def compute(lonlat: torch.Tensor) -> Any:
        ask = np._core.multiarray._set_madvise_hugepage
        before = ask(large_pages)
        try:
            return harmonics.compute(to_xyz(lonlat).numpy())
        finally:
            ask(before)

    return compute


# ------------------------------------------------------------------------------------- the cases


def floor(flops: dict[str, float], moved: float, rates: dict[str, float]) -> dict:
    """The shortest possible time on this machine: that of arithmetic or memory, the longer one."""
    arithmetic = sum(number / rates[f"flops_{kind}"] for kind, number in flops.items())
    memory = moved / rates["bytes_per_second"]
    limit = "arithmetic" if arithmetic > memory else "memory"
    done = {"flops": float(sum(flops.values())), "bytes": float(moved)}
    return {**done, "floor": max(arithmetic, memory), "limit": limit}


def of_harmonics(n: int, degree: int, rates: dict[str, float]) -> dict:
    # Five float64 operations a value. Element-wise code does one operation an instruction and a
    # matrix product two, so the rate is half that of products. Memory: the float32 result alone.
    return floor({"float64": 2 * 5 * n * degree**2}, 4 * n * degree**2, rates)


def of_step(
    step: Work, rates: dict[str, float], batch: int, degree: int = 40, others: int = 0
) -> dict:
    # All products in the step are needed. Each of `others` computes again the three products of
    # the whole loss. Memory: features are written once and read twice.
    flops = count(step).flops
    flops["float32"] += others * 3 * 2 * batch**2 * 256
    return floor(flops, 3 * 4 * batch * degree**2, rates)


def of_grid(n: int, degree: int, hidden: int, rates: dict[str, float]) -> dict:
    # With the first layer's weights folded, a row costs W x (2L - 1) products a hidden unit.
    flops = 2.0 * n * ((2 * degree - 1) * hidden + hidden**2 + hidden * 256)
    return floor({"float32": flops}, 4 * n * 256, rates)


def harmonics(peer, clock, rates, rounds) -> pd.DataFrame:
    tables = []
    for n in POINTS:
        lonlat = places(n)
        contenders: dict[str, Work] = {"locties": partial(harmonics_as, lonlat, 40, torch.float32)}
        contenders["locties float64"] = partial(harmonics_as, lonlat, 40, torch.float64)
        for name, large_pages in SPHERICART.items():
            if (other := sphericart(40, large_pages)) is not None:
                contenders[name] = partial(other, lonlat)
        if peer is not None:
            features = peer.build(40, 8).posenc
            contenders["SatCLIP analytic"] = partial(features, lonlat)
        table = measure(contenders, rounds, clock)
        tables.append(table.assign(case="harmonics", size=n, **of_harmonics(n, 40, rates)))
    return pd.concat(tables)


def steps(peer, clock, rates, rounds) -> pd.DataFrame:
    own: dict[str, Work] = {
        "locties": training_step(batch=BATCH),
        "locties bfloat16": training_step(batch=BATCH, bfloat16=True),
        "locties MELT of three": training_step(3, BATCH),
        "locties SALT of three": training_step(3, BATCH, schedule="salt"),
    }
    others: dict[str, Work] = {}
    if peer is not None:
        others["SatCLIP"] = peer.step(BATCH)
        in_its_loop = peer.lightning_step(BATCH, clock)
        if in_its_loop is not None:
            others["SatCLIP in Lightning"] = in_its_loop
    bounds = {name: of_step(step, rates, BATCH) for name, step in own.items()}
    table = measure(own | others, rounds, clock).assign(case="step", size=BATCH)
    # The peers could do the same work as locties, so its floor is theirs.
    least = pd.DataFrame(bounds.get(name, bounds["locties"]) for name in table["contender"])
    return pd.concat([table, least], axis=1)


def grid(peer, clock, rates, rounds) -> pd.DataFrame:
    """Time grids. All but the separable form compute some rows, and their time is scaled up."""
    lon, lat = pixel_centres(RESOLUTION)
    ours = encoder(hidden=256).eval()

    def rows(function: Callable, count: int) -> Work:
        some = torch.as_tensor(lat[:: len(lat) // count][:count])
        lonlat = torch.cartesian_prod(some, torch.as_tensor(lon)).flip(1)
        return torch.no_grad()(lambda: [function(part) for part in lonlat.split(16_384)])

    def whole() -> None:
        for _ in stream_grid(ours, RESOLUTION):
            pass

    counts = {"locties": len(lat), "locties point by point": 20}
    points = rows(partial(embed_points, ours), 20)
    contenders = {"locties": whole, "locties point by point": points}
    if peer is not None:
        counts["SatCLIP"] = 4
        contenders["SatCLIP"] = rows(peer.build(40, 256).eval(), 4)
    table = measure(contenders, rounds, clock)
    share = table["contender"].map(counts) / len(lat)
    for column in ("seconds", "fastest", "slowest"):
        table[column] /= share
    table["times"] = [[t / s for t in ts] for ts, s in zip(table["times"], share, strict=True)]
    n = len(lon) * len(lat)
    return table.assign(case="grid", size=n, measured=share, **of_grid(n, 40, 256, rates))


def loss(peer, clock, rates, rounds) -> pd.DataFrame:
    """Memory and time of the loss with its gradients, each in a process of its own."""
    script, rows = Path(__file__).with_name("loss_memory.py"), []
    for direction in DIRECTIONS:
        command = [sys.executable, str(script), str(LOSS_PAIRS), "256", direction, "float32"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        megabytes, taken = map(float, done.stdout.split())
        passes = 2 if direction == "symmetric" else 1
        bound = floor({"float32": passes * 6 * LOSS_PAIRS**2 * 256}, 0, rates)
        times = {
            "seconds": taken,
            "fastest": taken,
            "slowest": taken,
            "rounds": 1,
            "clock": "processor",
        }
        named = {"contender": f"locties {direction}", "case": "loss", "size": LOSS_PAIRS}
        rows.append({**named, **times, "times": [taken], "megabytes": megabytes, **bound})
    return pd.DataFrame(rows)


def growth(peer, clock, rates, rounds) -> pd.DataFrame:
    """Time locties as each size grows while the other sizes are fixed."""
    tables = []

    def add(
        case: str,
        work_of: Callable[[int], Work],
        bound_of: Callable[[int, Work], dict],
        by: Callable[[], float] = clock,
    ) -> None:
        works = {size: work_of(size) for size in GROWTH[case]}
        table = measure(works, max(3, rounds // 3), by).rename(columns={"contender": "size"})
        bounds = pd.DataFrame(bound_of(size, work) for size, work in works.items())
        tables.append(pd.concat([table, bounds], axis=1).assign(case=case, contender="locties"))

    add(
        "harmonics by points",
        lambda n: partial(harmonics_as, places(n), 40, torch.float32),
        lambda n, _: of_harmonics(n, 40, rates),
    )
    add(
        "harmonics by L",
        lambda degree: partial(harmonics_as, places(POINTS[0]), degree, torch.float32),
        lambda degree, _: of_harmonics(POINTS[0], degree, rates),
    )
    add(
        "loss by batch",
        loss_of,
        lambda pairs, _: floor({"float32": 6 * pairs**2 * 256}, 0, rates),
    )
    add(
        "step by batch",
        lambda batch: training_step(batch=batch),
        lambda batch, step: of_step(step, rates, batch),
    )
    add(
        "step by modalities",
        lambda count: training_step(count, BATCH),
        lambda _, step: of_step(step, rates, BATCH),
    )
    add(
        "step by L",
        lambda degree: training_step(batch=BATCH, degree=degree),
        lambda degree, step: of_step(step, rates, BATCH, degree),
    )
    step, wall = training_step(batch=BATCH), time.perf_counter
    together = {
        count: on_threads(count, partial(calibrate, wall))
        for count in {*GROWTH["step by threads"], *GROWTH["step by processes"]}
    }
    add(
        "step by threads",
        lambda count: partial(on_threads, count, step),
        lambda count, _: of_step(step, together[count], BATCH),
        wall,
    )
    # Each process takes the loss of the whole batch.
    add(
        "step by processes",
        lambda count: partial(in_processes, count, BATCH),
        lambda count, _: of_step(step, together[count], BATCH, others=count - 1),
        wall,
    )
    return pd.concat(tables)


def loss_of(pairs: int) -> Work:
    """The loss in one direction with its gradients."""
    batch, scale = pairs_of(pairs, 256, torch.float32), torch.tensor(2.6, requires_grad=True)
    return lambda: nt_xent(batch, scale).backward()


def on_threads(count: int, work: Work) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def in_processes(count: int, batch: int) -> float:
    """Wall-clock seconds of a step of `locties.pretrain` in `count` processes."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_train, (count, batch, folder), nprocs=count)
        return float(Path(folder, "seconds").read_text())


def _train(rank: int, count: int, batch: int, folder: str) -> None:
    torch.set_num_threads(1)
    if count > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
        )
    ends: list[float] = []  # of the parts of the run, in the first process
    locties.pretrain(
        "melt",
        [Modality("profiles", places(20_000), profiles(20_000), profile_encoder(PROFILE))],
        encoder(),
        pairs=batch * STEPS * (PARTS + 1),
        batch=batch,
        epochs=PARTS + 1,
        progress=False,
        device="cpu",
        after_epoch=lambda *_: ends.append(time.perf_counter()),
    )
    if rank == 0:
        parts = [end - start for start, end in pairwise(ends)]
        Path(folder, "seconds").write_text(str(statistics.median(parts) / STEPS))
    if count > 1:
        torch.distributed.destroy_process_group()


CASES = {"harmonics": harmonics, "step": steps, "grid": grid, "loss": loss, "growth": growth}
ONCE = ("loss", "growth")  # not at every number of threads


def measure_cases(names: list[str], peer: SimpleNamespace | None, rounds: int) -> pd.DataFrame:
    """The rows of these cases, with torch's current number of threads."""
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    rates = calibrate(clock)
    table = pd.concat([CASES[name](peer, clock, rates, rounds) for name in names])
    # The time as a multiple of locties' time for the same work in the same round.
    own = table[(table["contender"] == "locties") & ~table["case"].isin(GROWTH)]
    own = own.set_index(["case", "size"])["times"]
    table["ratio"] = [
        statistics.median(a / b for a, b in zip(row.times, own[row.case, row.size], strict=True))
        if (row.case, row.size) in own.index
        else float("nan")
        for row in table.itertuples()
    ]
    return table.assign(threads=threads, **rates)


def step_parts() -> pd.DataFrame:
    """The time of each part of a step, with torch's current number of threads."""
    kinds = {"float32": {}, "bfloat16": {"bfloat16": True}}
    steps = {kind: training_step(batch=BATCH, **options) for kind, options in kinds.items()}
    table = pd.DataFrame({kind: milliseconds(step) for kind, step in steps.items()})
    table = table.rename_axis("part").melt(var_name="kind", value_name="ms", ignore_index=False)
    return table.reset_index().assign(threads=torch.get_num_threads())


def conditions(load: float, satclip: Path | None) -> dict[str, object]:
    """The machine, its load and the versions of other code; `load` is from before the timings."""
    return {
        "machine": processor(),
        "cores": os.cpu_count(),
        "load": f"{load:.1f} to {os.getloadavg()[0]:.1f}",
        "torch": torch.__version__,
        "peers": peers(satclip),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def processor() -> str:
    found = [
        line.partition(":")[2].strip()
        for line in (
            Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
        )
        if line.startswith("model name")
    ]
    return found[0] if found else platform.processor()


def show(table: pd.DataFrame, goals: pd.DataFrame) -> None:
    for (threads, case), rows in table.groupby(["threads", "case"], sort=False):
        columns = ("size", "contender", "ms", "fastest", "slowest", "ratio", "x floor", "limit")
        printed = Table(*columns, title=f"{case}, threads: {threads}")
        for row in rows.itertuples():
            times = [f"{1000 * t:,.2f}" for t in (row.seconds, row.fastest, row.slowest)]
            ratio = "" if pd.isna(row.ratio) else f"{row.ratio:.2f}"
            values = [ratio, f"{row.seconds / row.floor:.1f}", row.limit]
            printed.add_row(f"{row.size:,}", row.contender, *times, *values)
        Console().print(printed)
    printed = Table(
        "", "threads", "median", "least", "largest", "goal", "met", "best possible", title="goals"
    )
    for row in goals.itertuples():
        values = [f"{value:.2f}" for value in (row.measured, row.least, row.largest)]
        best = "" if pd.isna(row.best) else f"{row.best:.1f}"
        met = "yes" if row.met else "no"
        printed.add_row(
            row.goal, str(row.threads), *values, f"{row.bound} {row.target:g}", met, best
        )
    Console().print(printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--satclip", type=Path, help="a clone of SatCLIP's repository")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({1, os.cpu_count() or 1}),
        help="numbers of threads; memory and growth are measured on the first only",
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    code = f"{locties.__version__}+{commit()}"  # read it now: files may change during the run
    peer = satclip(chosen.satclip) if chosen.satclip else None
    load = os.getloadavg()[0]
    tables, within = [], []
    for turn, threads in enumerate(chosen.threads):
        names = [name for name in chosen.cases if turn == 0 or name not in ONCE]
        tables.append(on_threads(threads, partial(measure_cases, names, peer, chosen.rounds)))
        if "step" in names:
            within.append(on_threads(threads, step_parts))
    table = pd.concat(tables, ignore_index=True)
    goals = judge(table)
    table = table.drop(columns="times").assign(code=code, **conditions(load, chosen.satclip))
    show(table, goals)
    if chosen.output:
        written = {"": table, "_goals": goals} | ({"_step": pd.concat(within)} if within else {})
        for name, content in written.items():
            path = chosen.output.with_name(f"{chosen.output.stem}{name}.parquet")
            aside = path.with_name(f".{path.name}.part")
            content.to_parquet(aside, index=False)
            aside.replace(path)


if __name__ == "__main__":
    main()
