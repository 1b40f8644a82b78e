"""What `fit_map` chooses among, and how each candidate predicts blocks that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locties.apply.metadata import Encoder
from locties.encoder import published
from locties.evaluation.baselines import Appended, contender
from locties.evaluation.probes import PROBES, is_classification
from locties.evaluation.protocol import called, checked_embedding
from locties.evaluation.tasks import Task

Array = NDArray[np.float64]

COORDINATES = "coordinates"
HARMONICS = "harmonics_10"
PLACE = "xyz"


@dataclass(frozen=True)
class Candidate:
    """An encoder with a probe; `encoder` is "coordinates" where no trained one is used."""

    encoder: str
    features: str
    probe: str
    function: Encoder

    @property
    def name(self) -> str:
        return f"{self.features}, {self.probe}"


def candidates(encoder: Any) -> list[Candidate]:
    """The candidates for one encoder, several, or ``"auto"``: all that come with locties.

    Each encoder by ridge, by nearest neighbours, by ridge with harmonics appended, and by kriging.
    Beside them what coordinates alone can do: ridge on harmonics, nearest neighbours on the sphere,
    kriging, and the mean or the commonest class.
    """
    if isinstance(encoder, str) and encoder == "auto":
        encoder = published()
    encoders = encoder if isinstance(encoder, list | tuple) else [encoder]
    if not encoders:
        raise ValueError(f"encoder={encoder!r}: give a name, a folder, a LocationEncoder or 'auto'")
    found = []
    for each in encoders:
        name, function = _named(each)
        appended = Appended(function, HARMONICS)
        found += [
            Candidate(name, name, "ridge", function),
            Candidate(name, name, "knn", function),
            Candidate(name, f"{name}+{HARMONICS}", "ridge", appended),
            Candidate(name, f"{name}+{PLACE}", "kriging", Appended(function, PLACE)),
        ]
    alone = [(HARMONICS, "ridge"), (PLACE, "knn"), (PLACE, "kriging"), ("constant", "ridge")]
    for features, probe in alone:
        found.append(Candidate(COORDINATES, features, probe, contender(features)))
    return found


def _named(encoder: str | Path | Encoder) -> tuple[str, Encoder]:
    return called(encoder), contender(encoder)


class Trial:
    """A candidate's predictions of a task's labels by models that have not seen them.

    Args:
        candidate: to judge.
        task: its labels.
        fold: `(N,)` spatial folds.
        random: `(N,)` random folds.
    """

    def __init__(
        self,
        candidate: Candidate,
        task: Task,
        fold: NDArray[np.int64],
        random: NDArray[np.int64],
    ) -> None:
        self.candidate, self.target, self.fold = candidate, task.target, fold
        self.x = checked_embedding(candidate.function, task.lonlat)
        self.blocks = self._outside(fold)
        self.random = self._outside(random)

    def _outside(self, fold: NDArray[np.int64]) -> NDArray[Any]:
        """Predictions `(N,)`, each without its own fold."""
        probe = PROBES[self.candidate.probe](self.x, [self.target], fold)
        predicted = np.empty_like(self.target)
        for each in np.unique(fold).tolist():
            predicted[fold == each] = probe.fit(each)(self.x[fold == each])[0]
        return predicted

    @cached_property
    def nested(self) -> dict[int, float]:
        """Of each spatial fold the mean loss on the other labels, by models that saw neither."""
        probe = PROBES[self.candidate.probe](self.x, [self.target], self.fold)
        folds = np.unique(self.fold).tolist()
        total = dict.fromkeys(folds, 0.0)
        for i, one in enumerate(folds):
            for other in folds[:i]:
                fitted = probe.fit(one, other)
                for outer, inner in ((one, other), (other, one)):
                    rows = self.fold == inner
                    total[outer] += float(losses(self.target[rows], fitted(self.x[rows])[0]).sum())
        return {outer: total[outer] / (self.fold != outer).sum() for outer in folds}


def losses(target: NDArray[Any], predicted: NDArray[Any]) -> Array:
    """Of each label: the squared error, or 1 for a wrong class."""
    if is_classification(target):
        return np.asarray(predicted != target, np.float64)
    return np.asarray((predicted - target) ** 2)


def best(trials: Sequence[Trial], loss: Callable[[Trial], float]) -> Trial:
    """The trial of the smallest loss; the first of equals."""
    return min(trials, key=loss)
