"""The design of the study, fixed before its runs: contenders, budgets, replicates and points.

**Question.** Do several unpaired modalities train a better location encoder than one modality or
none? Is it better than the modalities' own values?

**Sweeps.** Each part of the study is a sweep: contenders with tables of their own. ``main`` answers
the question; the others of `locties_paper.sweeps` each change something else.

**Budgets.** A contender is trained with each of its `budgets` times `PAIRS` pairs. The learning
rate falls to zero at the end of each. The best budget has the highest headline score on pilot
places, at a seed that no table uses. MELT, SALT, regression and the strongest single have all
budgets up to 1 in the tables, so that they also stand at equal pairs.

**Points.** A fifth of all places, by a hash of their coordinates, are pilot places. Tables use the
others.

**Replicates.** Everything in ``main`` is done again `REPLICATES` times. Each replicate draws new
points, folds and labels, and trains with a new seed, so the spread over replicates is that of seeds
and draws together. Encoders that are ``crossed`` with objectives have half as many seeds, each with
two draws; other sweeps have fewer seeds.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from locties import LocationEncoder, Task
from locties.evaluation import TIERS
from locties.evaluation.leakage import LEAKS, OPEN_LEAKS
from locties.evaluation.tasks import is_common
from locties.modalities import rasters
from locties_paper.own_targets import OWN, modality_of

TASKS: dict[str, Mapping[str, Callable[..., Task]]] = {**TIERS, "own": OWN}  # by tier
LEAKING: dict[str, Mapping[str, Sequence[str]]] = {  # by tier and task, the modalities
    "embedded": LEAKS,
    "open": OPEN_LEAKS,
    "own": {name: (modality_of(name),) for name in OWN},
}
PAIRS = 460_800
BATCH = 1024
TURNS = 3  # of SALT, for each modality, at a budget of 1
REPLICATES = 10
FIRST_SEED = 20
PILOT_SEED = 100
PILOT_DRAW = 1000
POINTS = 5000

FIVE = ("imagery", "rain", "haze", "relief", "toponyms")
TRIPLES = (
    ("imagery", "rain", "toponyms"),
    ("imagery", "rain", "haze"),
    ("rain", "haze", "relief"),
    ("haze", "relief", "toponyms"),
    ("imagery", "relief", "toponyms"),
)
KINDS = ("imagery_frozen", "text", "toponyms", "rain")  # the nearest to the paper in open data
FEATURES: dict[str, dict[str, Any]] = {
    **{
        f"harmonics_{degree}": {
            "features": "spherical_harmonics",
            "feature_options": {"degree": degree},
        }
        for degree in (5, 10, 20, 40, 80)
    },
    "fourier": {"features": "fourier", "feature_options": {}},
    "hash_grid": {"features": "hash_grid", "feature_options": {}},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "siren": {"network": "siren", "network_options": {"hidden": 256, "layers": 4}},
    "residual": {"network": "residual", "network_options": {"hidden": 256, "layers": 3}},
}
DEFAULT = {**FEATURES["harmonics_10"], **NETWORKS["siren"], "dim": 256}

# How an encoder is read: alone, or joined with others. HARMONICS ends the name of one that is read
# beside harmonics.
HARMONICS = "+harmonics_10"
READS = ("output", f"output{HARMONICS}")
WITH_RAW = f"output+raw{HARMONICS}"


def replicates(seeds: int, draws: int = 1) -> tuple[tuple[int, range], ...]:
    """Training seeds, each with draws of points of its own."""
    return tuple(
        (FIRST_SEED + seed, range(seed * draws, (seed + 1) * draws)) for seed in range(seeds)
    )


@dataclass(frozen=True)
class Contender:
    """An encoder, how it is trained and how it is read.

    Attributes:
        budgets: times `PAIRS`, tried on pilot places; the best is in the tables. A single one needs
            no pilot. Longer runs are left out where shorter ones already score less. A budget of 0
            is an encoder without training.
        curve: budgets that are in the tables anyway.
        replicates: training seeds, each with its draws of points.
        reads: how it is read in the tables; `WITH_RAW` only at its best budget.
        settings: arguments of `locties.pretrain` other than the study's.
        groups: the columns of the modality `rasters` to read, if not all.
        each_epoch: whether it is scored at the end of each epoch, and not of the run alone.
    """

    name: str
    schedule: str
    modalities: Sequence[str]
    objective: str = "nt_xent"
    encoder: Mapping[str, Any] = field(default_factory=lambda: DEFAULT)
    budgets: Sequence[float] = (1 / 16, 1 / 4, 1.0)
    curve: Sequence[float] = ()
    replicates: Sequence[tuple[int, Sequence[int]]] = replicates(REPLICATES)
    reads: Sequence[str] = READS[1:]
    settings: Mapping[str, Any] = field(default_factory=dict)
    each_epoch: bool = False
    groups: Sequence[str] | None = None

    @property
    def trains(self) -> bool:
        """Whether it is trained at all."""
        return any((*self.budgets, *self.curve))

    def start(self, seed: int) -> LocationEncoder:
        """The encoder before training."""
        return LocationEncoder(**self.encoder, seed=seed)

    def arguments(self, budget: float, seed: int) -> dict[str, Any]:
        """The arguments of `locties.pretrain`, except the encoder."""
        return {
            "schedule": self.schedule,
            "modalities": list(self.modalities)
            if self.groups is None
            else [rasters(seed=seed, groups=self.groups)],
            "pairs": round(PAIRS * budget),
            "batch": BATCH,
            "epochs": len(self.modalities) * max(1, round(TURNS * budget)),
            "learning_rate": 1e-3,
            "objective": self.objective,
            "samples": 20_000,
            "seed": seed,
            **self.settings,
        }


@dataclass(frozen=True)
class Scoring:
    """How encoders are scored: tiers, and arguments of `locties.evaluate`.

    Attributes:
        labels: None for all, 50, 200 and 1,000.
        classes: whether tasks with classes are scored.
        seconds: an estimate for one reading at one draw, on one thread of an AMD EPYC.
    """

    tiers: Sequence[str] = ("embedded", "open")
    probes: Sequence[str] = ("ridge", "knn")
    labels: str | None = None
    classes: bool = True
    seconds: float = 15.0


SCORING = Scoring()


class Sweep:
    """A part of the study, with tables of its own.

    Attributes:
        title: what it compares.
        contenders: by name.
        baselines: contenders without training, scored at the draws of the others.
        scoring: of all of them.
    """

    def __init__(
        self,
        title: str,
        contenders: Iterable[Contender],
        baselines: Sequence[str] = (),
        scoring: Scoring = SCORING,
    ) -> None:
        self.title, self.baselines, self.scoring = title, baselines, scoring
        self.contenders = {each.name: each for each in contenders}


def strongest(chosen: pd.DataFrame, modalities: Sequence[str] = FIVE) -> str:
    """The two-modality run on one of some modalities with the best score on pilot places."""
    scores = chosen.set_index("contender")["value"]
    return str(scores[[f"clip-{name}" for name in modalities]].idxmax())


def leaks(rows: pd.DataFrame) -> pd.Series:
    """Whether one of the five modalities holds what the task of each row asks for.

    The headline is the mean over tasks of the open tier without leaks; budgets are chosen by it.
    """
    leaking = {
        (tier, task)
        for tier, of_tier in LEAKING.items()
        for task, modalities in of_tier.items()
        if set(modalities) & set(FIVE)
    }
    pairs = zip(rows["tier"], rows["task"], strict=True)
    return pd.Series([pair in leaking for pair in pairs], rows.index)


def is_pilot(task: Task) -> np.ndarray:
    """Which points (N,) are pilot places: about a fifth; a place is one in all tasks and draws."""
    places = task.lonlat.float().numpy() + np.float32(0)
    return np.array([zlib.crc32(place.tobytes()) % 5 == 0 for place in places])


def tasks(tier: str, draw: int) -> list[Task]:
    """The tasks of a tier at one draw of points: pilot places for `PILOT_DRAW`, else all others."""
    return [_part(make(POINTS * 5 // 4, draw), draw == PILOT_DRAW) for make in TASKS[tier].values()]


def _part(task: Task, pilot: bool) -> Task:
    """The pilot places of a task, or the others, without classes that become too small."""
    kept = is_pilot(task) == pilot
    target = task.target
    if task.classes:
        target = np.array(task.classes)[target]
        kept[kept] = is_common(target[kept])
    return replace(
        task, lonlat=task.lonlat[torch.from_numpy(kept)], target=target[kept], classes=None
    )
