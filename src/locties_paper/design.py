"""The design of the study, fixed before its runs: contenders, budgets, seeds, points and draws.

**Question.** Do several unpaired modalities train a better location encoder than one modality or
none? Is it better than the modalities' own values?

**Budgets.** A contender is trained with each of `BUDGETS` times `PAIRS` pairs. The learning rate
falls to zero at the end of each. Its best budget and readout are those with the best mean score on
pilot places, at pilot seeds. No table uses these places or seeds. Tables also give the scores at
equal budgets.

**Points.** A fifth of all places, by a hash of their coordinates, are pilot places. The rest are
drawn anew, with their folds and labels, for each draw.

**What varies.** A published contrast has at least five seeds and ten draws. Its interval resamples
both; a second one resamples tasks.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from locties import LocationEncoder, Task
from locties.evaluation import TIERS
from locties.evaluation.tasks import is_common

PAIRS = 460_800
BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
BATCH = 1024
EPOCHS_PER_BUDGET = 16  # for a budget of 1; SALT changes its modality after each epoch
SEEDS = tuple(range(20, 30))
FEWER_SEEDS = SEEDS[:5]
PILOT_SEEDS = (100, 101)
DRAWS = tuple(range(10))
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


@dataclass(frozen=True)
class Contender:
    """An encoder and how it is trained; the budget is chosen on pilot places.

    `largest` is the last of `BUDGETS` that is tried. It is smaller where scores fall early, since
    longer runs would show nothing new.
    """

    name: str
    schedule: str
    modalities: Sequence[str]
    objective: str = "nt_xent"
    encoder: Mapping[str, Any] = field(
        default_factory=lambda: {
            "features": "spherical_harmonics",
            "feature_options": {"degree": 10},
            "network": "siren",
            "network_options": {"hidden": 256, "layers": 4},
            "dim": 256,
        }
    )
    locations: str = "fixed"
    seeds: Sequence[int] = FEWER_SEEDS
    largest: float = 4.0

    def budgets(self) -> list[float]:
        """The budgets that are tried."""
        return [budget for budget in BUDGETS if budget <= self.largest]

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
            "epochs": max(1, round(EPOCHS_PER_BUDGET * budget)),
            "learning_rate": 1e-3,
            "objective": self.objective,
            "locations": self.locations,
            "samples": 20_000,
            "seed": seed,
        }


def contenders() -> dict[str, Contender]:
    """Every contender that is trained, by name."""
    main = [
        Contender("melt", "melt", FIVE, seeds=SEEDS),
        Contender("salt", "salt", FIVE, seeds=SEEDS),
        Contender("regression", "melt", FIVE, objective="regression", seeds=SEEDS),
        Contender("melt-kinds", "melt", KINDS),
        Contender("salt-kinds", "salt", KINDS),
    ]
    ones = [
        Contender(f"clip-{name}", "clip", [name], seeds=SEEDS, largest=2.0)
        for name in (*FIVE, "text", "imagery_frozen")
    ]
    triples = [Contender(f"melt-{'-'.join(three)}", "melt", three) for three in TRIPLES]
    return {each.name: each for each in (*main, *ones, *triples)}


def crossed() -> dict[str, Contender]:
    """Every encoder with every objective: which of the two limits the score?"""
    default = Contender("", "melt", FIVE, locations="fresh", seeds=SEEDS[:3])
    networks = {
        "siren": {"network": "siren", "network_options": {"hidden": 256, "layers": 4}},
        "residual": {"network": "residual", "network_options": {"hidden": 256, "layers": 3}},
    }
    features: dict[str, dict[str, Any]] = {
        f"harmonics{degree}": {
            "features": "spherical_harmonics",
            "feature_options": {"degree": degree},
        }
        for degree in (5, 10, 20, 40, 80)
    }
    features["fourier"] = {"features": "fourier", "feature_options": {}}
    features["hash"] = {"features": "hash_grid", "feature_options": {}}
    made = {}
    for objective in ("nt_xent", "regression"):
        for first, feature in features.items():
            for then, network in networks.items():
                name = f"{objective}-{first}-{then}"
                encoder = {**feature, **network, "dim": 256}
                made[name] = replace(default, name=name, objective=objective, encoder=encoder)
    return made


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
