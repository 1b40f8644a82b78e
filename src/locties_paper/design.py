"""The design of the study, fixed before its runs: contenders, budgets, replicates and points.

**Question.** Do several unpaired modalities train a better location encoder than one modality or
none? Is it better than the modalities' own values?

**Budgets.** A contender is trained with each of its `budgets` times `PAIRS` pairs. The learning
rate falls to zero at the end of each. The best budget has the highest headline score on pilot
places, at a seed that no table uses. Those of `CURVES` and the strongest single have all budgets up
to 1 in the tables, so that they also stand at equal pairs.

**Points.** A fifth of all places, by a hash of their coordinates, are pilot places. Tables use the
others.

**Replicates.** Everything is done again `REPLICATES` times. Each replicate draws new points, folds
and labels, and trains with a new seed, so the spread over replicates is that of seeds and draws
together. The encoders of `crossed` have half as many seeds, each with two draws.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from locties import LocationEncoder, Task
from locties.evaluation import TIERS
from locties.evaluation.leakage import LEAKS, OPEN_LEAKS
from locties.evaluation.tasks import is_common

LEAKING = {"embedded": LEAKS, "open": OPEN_LEAKS}  # by tier and task, the modalities
PAIRS = 460_800
# In the tables, these and the strongest single have all budgets up to 1, and are also read alone.
CURVES = ("melt", "salt", "regression")
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


@dataclass(frozen=True)
class Contender:
    """An encoder and how it is trained.

    Attributes:
        budgets: times `PAIRS`, tried on pilot places. Longer runs are left out where shorter ones
            already score less. A budget of 0 is an encoder without training.
        draws: of points, for each seed.
    """

    name: str
    schedule: str
    modalities: Sequence[str]
    objective: str = "nt_xent"
    encoder: Mapping[str, Any] = field(default_factory=lambda: DEFAULT)
    locations: str = "fixed"
    budgets: Sequence[float] = (1 / 16, 1 / 4, 1.0)
    draws: int = 1

    def start(self, seed: int) -> LocationEncoder:
        """The encoder before training."""
        return LocationEncoder(**self.encoder, seed=seed)

    def arguments(self, budget: float, seed: int) -> dict[str, Any]:
        """The arguments of `locties.pretrain`, except the encoder."""
        return {
            "schedule": self.schedule,
            "modalities": list(self.modalities),
            "pairs": int(PAIRS * budget),
            "batch": BATCH,
            "epochs": len(self.modalities) * max(1, round(TURNS * budget)),
            "learning_rate": 1e-3,
            "objective": self.objective,
            "locations": self.locations,
            "samples": 20_000,
            "seed": seed,
        }

    def replicates(self) -> list[tuple[int, list[int]]]:
        """Each training seed, with its draws of points."""
        draws = range(REPLICATES)
        return [
            (FIRST_SEED + first // self.draws, list(draws[first : first + self.draws]))
            for first in draws[:: self.draws]
        ]


def contenders() -> dict[str, Contender]:
    """Every contender with the default encoder, by name."""
    long = (1 / 16, 1 / 4, 1.0, 4.0)
    main = [
        Contender("untrained", "melt", FIVE, budgets=(0.0,)),
        Contender("melt", "melt", FIVE, budgets=long),
        Contender("salt", "salt", FIVE, budgets=long),
        Contender("regression", "melt", FIVE, "regression", budgets=long),
        Contender("melt-kinds", "melt", KINDS),
        Contender("salt-kinds", "salt", KINDS),
    ]
    ones = [
        *(
            Contender(f"clip-{name}", "clip", [name], budgets=(1 / 64, 1 / 16, 1 / 4, 1.0))
            for name in (*FIVE, "text", "imagery_frozen")
        ),
        *(Contender(f"regression-{name}", "melt", [name], "regression") for name in FIVE),
    ]
    triples = [
        Contender(f"{kind}-{'-'.join(three)}", "melt", three, objective)
        for kind, objective in (("melt", "nt_xent"), ("regression", "regression"))
        for three in TRIPLES
    ]
    return {each.name: each for each in (*main, *ones, *triples)}


def crossed() -> dict[str, Contender]:
    """Every encoder with both objectives: which of the two limits the score?

    The finest is also trained on each modality alone: are more modalities worth more to it?
    """
    encoders = [
        *((name, "siren" if "harmonics" in name else "residual", FIVE) for name in FEATURES),
        ("harmonics_10", "residual", FIVE),
        *(("hash_grid", "residual", (name,)) for name in FIVE),
    ]
    made = [
        Contender(
            "-".join([objective, features, network, *(modalities if modalities != FIVE else ())]),
            "melt",
            modalities,
            objective,
            {**FEATURES[features], **NETWORKS[network], "dim": 256},
            locations="fresh",
            budgets=budgets,
            draws=2,
        )
        for features, network, modalities in encoders
        for objective, budgets in (
            ("nt_xent", (1 / 16, 1 / 4, 1.0)),
            ("regression", (1 / 4, 1.0, 4.0)),
        )
    ]
    return {each.name: each for each in made}


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
    return [
        _part(TIERS[tier][name](POINTS * 5 // 4, draw), draw == PILOT_DRAW) for name in TIERS[tier]
    ]


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
