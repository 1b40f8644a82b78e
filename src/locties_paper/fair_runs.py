"""Train and score the contenders of a sweep of `locties_paper.sweeps`.

    python -m locties_paper.fair_runs pilot --sweep main
    python -m locties_paper.fair_runs choose --sweep main
    python -m locties_paper.fair_runs table --sweep main
    python -m locties_paper.fair_runs baselines --sweep main
    python -m locties_paper.fair_runs gather --sweep main

`pilot` trains the contenders that try several budgets at each of them, and scores them on pilot
places; `choose` writes the best budget of each; `table` trains these again in each replicate and
scores them on all other places; `baselines` scores contenders without training there. `gather`
joins the files of the jobs into tables in `results`. The cost is printed first. Each job writes one
file. A job whose file or rows exist is skipped, so a study can go on elsewhere. A training that was
stopped resumes, so each command can be killed and started again.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import locties
from locties import LocationEncoder, Task
from locties.apply.metadata import Encoder
from locties.data.manifest import manifest_hash
from locties.evaluation.baselines import BASELINES, Joined, contender
from locties.evaluation.raw import Raw
from locties.training import SCHEDULES
from locties_paper import design
from locties_paper.design import READS, SCORING, WITH_RAW, Contender, Scoring, Sweep
from locties_paper.figures.charts import METRICS
from locties_paper.own_targets import own_values
from locties_paper.results import write_table
from locties_paper.site.notebook import commit
from locties_paper.sweeps import BOOSTED, RASTERS, SWEEPS

# On one thread of an AMD EPYC.
SECONDS_A_BUDGET = {"nt_xent": 90.0, "regression": 25.0, "fidelity": 110.0}
BOOSTING = Scoring(probes=["boosting"], classes=False, seconds=225.0)  # classes would take an hour


@dataclass(frozen=True)
class Job:
    """One training and its scores."""

    contender: Contender
    budget: float
    seed: int
    draws: Sequence[int]
    reads: Sequence[str] = READS
    scoring: Scoring = SCORING

    @property
    def name(self) -> str:
        return f"{self.contender.name}@{self.budget:g}-{self.seed}"

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `locties.pretrain`, except the encoder."""
        return self.contender.arguments(self.budget, self.seed)

    @property
    def seconds(self) -> float:
        """An estimate of its cost on one thread."""
        times = self.arguments["epochs"] if self.contender.each_epoch else 1
        scoring = self.scoring.seconds * len(self.draws) * len(self.reads) * times
        return SECONDS_A_BUDGET[self.contender.objective] * self.budget + scoring

    def run(self, folder: Path) -> pd.DataFrame:
        """Train the encoder, as far as that is not done, and score it."""
        own = folder / "runs" / self.name
        encoder = trained(self, own)
        if not self.contender.each_epoch:
            return self.score(encoder)
        schedule = SCHEDULES[self.contender.schedule](self.contender.modalities)
        tables = []
        for epoch in range(1, self.arguments["epochs"] + 1):
            table = self.score(locties.load(own / "epochs" / str(epoch)))
            active = schedule.counts(epoch - 1, self.arguments["batch"])
            tables.append(table.assign(epoch=epoch, active=", ".join(active)))
        return pd.concat(tables)

    def score(self, encoder: LocationEncoder) -> pd.DataFrame:
        """The scores of an encoder of this run, in each reading."""
        tables = []
        for read in self.reads:
            parts = [BASELINES[name]() for name in read.split("+")[1:]]
            beside = Joined(encoder, *parts) if parts else encoder
            table = score(beside, self.contender.name, self.draws, self.scoring)
            tables.append(table.assign(read=read))
        return pd.concat(tables).assign(seed=self.seed, budget=self.budget)


@dataclass(frozen=True)
class Baseline:
    """A contender without training, at one draw."""

    encoder: str
    draw: int
    scoring: Scoring = SCORING

    @property
    def name(self) -> str:
        return f"{self.encoder}-{self.draw}"

    @property
    def seconds(self) -> float:
        """An estimate of its cost on one thread."""
        return self.scoring.seconds

    def run(self, folder: Path) -> pd.DataFrame:
        """Score it."""
        table = score(baseline(self.encoder), self.encoder, [self.draw], self.scoring)
        return table.assign(read="output", budget=0.0)


def baseline(name: str) -> Encoder:
    """A contender without training by its name in `locties_paper.sweeps`.

    The name is one of these: a name of `locties.evaluation.baselines.contender`; `BOOSTED`; raw
    values without some modalities ("raw-without-rain+harmonics_10"); raw values of one modality
    ("raw-only-rain").
    """
    first, *others = name.split("+")
    if "-without-" in first:
        left_out = first.partition("-without-")[2].split("-")
        kept = [each for each in RASTERS if each not in left_out]
        return Joined(Raw(kept), *map(contender, others))
    if "-only-" in first:
        return own_values(first.partition("-only-")[2])
    return contender("raw" if name == BOOSTED else name)


def pilot_jobs(sweep: Sweep) -> Iterator[Job]:
    """Every contender at every budget it tries, the shortest first."""
    jobs = [
        Job(each, budget, design.PILOT_SEED, [design.PILOT_DRAW], READS, sweep.scoring)
        for each in sweep.contenders.values()
        for budget in each.budgets
        if len(each.budgets) > 1
    ]
    yield from sorted(jobs, key=lambda job: job.budget)


def table_jobs(sweep: Sweep, chosen: pd.DataFrame) -> Iterator[Job]:
    """Every contender at its best budget, and along its curve, in each replicate.

    The strongest single has all budgets up to 1, and is also read alone. A replicate comes before
    the next, so the first jobs are a whole study with fewer replicates.
    """
    best = dict(zip(chosen["contender"], chosen["budget"], strict=True))
    contenders = dict(sweep.contenders)
    if {f"clip-{name}" for name in design.FIVE} <= best.keys():
        single = contenders[design.strongest(chosen)]
        curve = [budget for budget in single.budgets if budget <= 1]
        contenders[single.name] = replace(single, curve=curve, reads=READS)
    made = []
    for order, (name, each) in enumerate(contenders.items()):
        if each.budgets and name not in best:
            raise ValueError(f"{name!r} has no best budget: run its pilot, then choose")
        chosen_first = [best[name]] if each.budgets else []
        for replicate, (seed, draws) in enumerate(each.replicates):
            for budget in dict.fromkeys([*chosen_first, *each.curve]):
                reads = [r for r in each.reads if r != WITH_RAW or budget == best[name]]
                job = Job(each, budget, seed, draws, reads, sweep.scoring)
                made.append((replicate, order, job))
    yield from (job for _, _, job in sorted(made, key=lambda key: key[:2]))


def baseline_jobs(sweep: Sweep) -> Iterator[Baseline]:
    """The contenders without training at every draw of the tables; the longest come last."""
    draws = {d for each in sweep.contenders.values() for _, few in each.replicates for d in few}
    jobs = [
        Baseline(name, draw, BOOSTING if name == BOOSTED else sweep.scoring)
        for draw in sorted(draws)
        for name in sweep.baselines
    ]
    yield from sorted(jobs, key=lambda job: job.seconds)


def run(job: Job | Baseline, folder: Path) -> Path:
    """Write the rows of a job, unless they exist; return their file."""
    path = folder / "rows" / f"{job.name}.parquet"
    if not path.exists():
        write(job.run(folder).assign(job=job.name), path)
    return path


def trained(job: Job, folder: Path) -> LocationEncoder:
    """The trained encoder, from `folder` if it is there.

    Those of a contender that is scored at each epoch are kept in ``folder/epochs``.
    """
    encoder = job.contender.start(job.seed)
    if not job.budget:
        return encoder.eval()

    def keep(encoder: LocationEncoder, epoch: int) -> None:
        (folder / "epochs").mkdir(parents=True, exist_ok=True)
        encoder.save(folder / "epochs" / str(epoch))

    if not (folder / "encoder").is_dir():
        run = locties.pretrain(
            **job.arguments,
            encoder=encoder,
            checkpoint=folder / "checkpoint",
            device="cpu",
            progress=False,
            after_epoch=keep if job.contender.each_epoch else None,
        )
        run.save(folder)
        shutil.rmtree(folder / "checkpoint")
    return locties.load(folder / "encoder")


def score(encoder: Encoder, name: str, draws: Sequence[int], scoring: Scoring) -> pd.DataFrame:
    """Rows of `locties.evaluate` at some draws of points, folds and labels."""
    tables = []
    for draw in draws:
        for tier in scoring.tiers:
            tasks = [t for t in _tasks(tier, draw) if scoring.classes or t.classes is None]
            table = locties.evaluate(
                encoder, tasks, name=name, draw=draw, probes=scoring.probes, labels=scoring.labels
            )
            tables.append(table)
    return pd.concat(tables)


@lru_cache(maxsize=32)
def _tasks(tier: str, draw: int) -> list[Task]:
    return design.tasks(tier, draw)


def choose(sweep: Sweep, rows: pd.DataFrame) -> pd.DataFrame:
    """The budget of each contender with the best headline score on pilot places.

    The mean is over open tasks without leaks, splits, probes and labels, in the better reading. A
    contender with a single budget has that one, with or without a score.
    """
    given = pd.DataFrame(
        [(n, *each.budgets) for n, each in sweep.contenders.items() if len(each.budgets) == 1],
        columns=["contender", "budget"],
    )
    if not len(rows):
        return given.assign(read="", value=np.nan)
    scores = rows[rows["metric"].isin(METRICS) & (rows["draw"] == design.PILOT_DRAW)]
    headline = scores[(scores["tier"] == "open") & ~design.leaks(scores)]
    mean = headline.groupby(["encoder", "budget", "read"])["value"].mean().reset_index()
    best = mean.loc[mean.groupby("encoder", sort=False)["value"].idxmax()]
    best = best.rename(columns={"encoder": "contender"})
    others = given[~given["contender"].isin(best["contender"])]
    return pd.concat([best, others], ignore_index=True)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write rows with their provenance; the file appears whole."""
    write_table(table.assign(data=manifest_hash()[:12], code=commit()), path)


def run_all(jobs: Sequence[Job | Baseline], folder: Path, kept: Path, processes: int) -> None:
    """Run jobs in processes of one thread each, after printing what they cost.

    Jobs with rows in `folder` or in the table `kept` are skipped.
    """
    done = set(gather(folder, kept).get("job", []))
    left = [job for job in jobs if job.name not in done]
    hours = sum(job.seconds for job in left) / 3600
    print(
        f"{len(left)} of {len(jobs)} jobs, about {hours:.1f} core-hours, "
        f"{hours / processes:.1f} hours in {processes} processes",
        file=sys.stderr,
    )
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting = [pool.submit(run, job, folder) for job in left]
        for each in tqdm(as_completed(waiting), total=len(left), unit="job"):
            each.result()


def gather(folder: Path, kept: Path) -> pd.DataFrame:
    """The rows of the table `kept`, if it exists, then those of the other jobs in `folder`.

    ValueError if rows were measured on data other than the current ones.
    """
    tables = [pd.read_parquet(kept)] if kept.exists() else []
    known = set(tables[0]["job"]) if tables else set()
    files = sorted((folder / "rows").glob("*.parquet"))
    tables += [pd.read_parquet(path) for path in files if path.stem not in known]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    table = table[table["metric"].isin([*METRICS, "macro_f1"])] if len(table) else table
    if set(table.get("data", [])) - {manifest_hash()[:12]}:
        raise ValueError(f"{kept} or {folder} has rows of other data: move them away")
    return table


def main() -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["pilot", "choose", "table", "baselines", "gather"])
    parser.add_argument("--sweep", choices=list(SWEEPS), default="main")
    parser.add_argument("--output", type=Path, default=Path("_build/study"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    sweep = SWEEPS[given.sweep]
    parts = ("pilot", "table", "baselines")
    folders = {part: given.output / given.sweep / part for part in parts}
    kept = {part: given.results / f"study_{given.sweep}_{part}.parquet" for part in parts}
    chosen = given.results / f"study_{given.sweep}_chosen.parquet"
    if given.part == "choose":
        write(choose(sweep, gather(folders["pilot"], kept["pilot"])), chosen)
        print(pd.read_parquet(chosen).to_string(index=False))
    elif given.part == "gather":
        for part, folder in folders.items():
            if len(table := gather(folder, kept[part])):
                write_table(table, kept[part])
                print(f"{kept[part]}: {table['job'].nunique()} jobs, {len(table):,} rows")
    else:
        jobs: Iterable[Job | Baseline]
        if given.part == "pilot":
            jobs = pilot_jobs(sweep)
        elif given.part == "table":
            jobs = table_jobs(sweep, pd.read_parquet(chosen))
        else:
            jobs = baseline_jobs(sweep)
        run_all(list(jobs), folders[given.part], kept[given.part], given.processes)


if __name__ == "__main__":
    main()
