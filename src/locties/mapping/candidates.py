"""The candidates of `fit_map`, and their predictions of blocks that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locties.apply.metadata import Encoder, in_month, takes_month
from locties.evaluation.baselines import Joined, contender
from locties.evaluation.probes import PROBES, Probe, is_classification
from locties.evaluation.protocol import called, checked_embedding
from locties.evaluation.tasks import Task

Array = NDArray[np.float64]

AUTO = ("large", "small", "best")  # that come with locties: fine, coarse, and by contrast
COORDINATES = "coordinates"
HARMONICS = "harmonics_10"
PLACE = "xyz"


@dataclass(frozen=True)
class Candidate:
    """An encoder with a probe; `encoder` is "coordinates" if there is no trained one."""

    encoder: str
    features: str
    probe: str
    function: Encoder

    @property
    def name(self) -> str:
        return f"{self.features}, {self.probe}"


def candidates(encoder: Any, month: int | None = None, invalid: str = "raise") -> list[Candidate]:
    """The candidates for one encoder, several, or ``"auto"``, which is `AUTO`.

    Each encoder is tried with ridge, nearest neighbours, ridge with harmonics appended, and
    kriging. Coordinates alone are tried too: ridge on harmonics, nearest neighbours on the sphere,
    kriging, and the mean or the commonest class. Encoders that take a month are taken in `month`.
    `invalid` as in `fit_map`.
    """
    if isinstance(encoder, str) and encoder == "auto":
        encoder = AUTO
    encoders = encoder if isinstance(encoder, list | tuple) else [encoder]
    if not encoders:
        raise ValueError(f"encoder={encoder!r}: give a name, a folder, a LocationEncoder or 'auto'")
    of_table = "drop" if invalid == "drop" else "raise"
    named = [(called(each), contender(each, invalid=of_table)) for each in encoders]
    seasonal = [name for name, function in named if takes_month(function)]
    if seasonal and month is None:
        raise ValueError(f"{seasonal[0]} takes a month, and a map is of one: pass month=7")
    if month is not None and not seasonal:
        raise ValueError(f"month={month!r}: no encoder takes a month: leave the month out")
    found = []
    for name, function in named:
        if takes_month(function):
            function = in_month(function, month)
        harmonics, place = (Joined(function, contender(name)) for name in (HARMONICS, PLACE))
        found += [
            Candidate(name, name, "ridge", function),
            Candidate(name, name, "knn", function),
            Candidate(name, f"{name}+{HARMONICS}", "ridge", harmonics),
            Candidate(name, f"{name}+{PLACE}", "kriging", place),
        ]
    alone = [(HARMONICS, "ridge"), (PLACE, "knn"), (PLACE, "kriging"), ("constant", "ridge")]
    for features, probe in alone:
        found.append(Candidate(COORDINATES, features, probe, contender(features)))
    return found


class Trial:
    """Predictions of a task's labels by a candidate's models that have not seen them.

    Args:
        candidate: the candidate to judge.
        task: its labels.
        fold: `(N,)` spatial folds.
        random: `(N,)` random folds.

    Attributes:
        x: `(N, d)` embeddings.
        blocks: predictions `(N,)`, each by a model without the label's spatial fold.
        random: predictions `(N,)`, each by a model without the label's random fold.
        nested: for each spatial fold, the mean loss on the labels of the other folds, by models
            that saw neither that fold nor the label's own.
    """

    def __init__(
        self,
        candidate: Candidate,
        task: Task,
        fold: NDArray[np.int64],
        random: NDArray[np.int64],
    ) -> None:
        self.candidate = candidate
        self.x = checked_embedding(candidate.function, task.lonlat)
        in_blocks, at_random = (
            PROBES[candidate.probe](self.x, [task.target], each) for each in (fold, random)
        )
        self.blocks, self.random = (self._outside(probe) for probe in (in_blocks, at_random))
        self.nested = self._nested(in_blocks)

    def _outside(self, probe: Probe) -> NDArray[Any]:
        predicted = np.empty_like(probe.targets[0])
        for each in np.unique(probe.fold).tolist():
            predicted[probe.fold == each] = probe.fit(each)(self.x[probe.fold == each])[0]
        return predicted

    def _nested(self, probe: Probe) -> dict[int, float]:
        fold, target = probe.fold, probe.targets[0]
        folds = np.unique(fold).tolist()
        total = dict.fromkeys(folds, 0.0)
        for one, other in combinations(folds, 2):
            fitted = probe.fit(one, other)
            for outer, inner in ((one, other), (other, one)):
                rows = fold == inner
                total[outer] += float(losses(target[rows], fitted(self.x[rows])[0]).sum())
        return {outer: total[outer] / (fold != outer).sum() for outer in folds}


def losses(target: NDArray[Any], predicted: NDArray[Any]) -> Array:
    """For each label, the squared error, or 1 for a wrong class."""
    if is_classification(target):
        return np.asarray(predicted != target, np.float64)
    return np.asarray((predicted - target) ** 2)


def best(trials: Sequence[Trial], loss: Callable[[Trial], float]) -> Trial:
    """The trial with the smallest loss; the first among equals."""
    return min(trials, key=loss)
