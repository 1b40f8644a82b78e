"""`fit_map`: from a table of labels to predictions anywhere, with their uncertainty."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from locties.apply.metadata import Encoder, describe
from locties.evaluation.probes import is_classification
from locties.evaluation.protocol import checked_embedding, r2, share
from locties.evaluation.splits import (
    block_degrees,
    block_index,
    count_places,
    nearest_label_km,
    possible_folds,
)
from locties.evaluation.statistics import Interval, block_bootstrap
from locties.evaluation.tasks import Task
from locties.lonlat import BLOCK_DEGREES, LonLat, check
from locties.mapping.applicability import Applicability
from locties.mapping.candidates import COORDINATES, Candidate, Trial, best, candidates, losses
from locties.mapping.conformal import (
    LEFT_OUT,
    ConformalProbe,
    Predictions,
    check_coverage,
    conformal_probe,
    fewest_labels,
    labelled,
)
from locties.mapping.output import Outputs
from locties.user_data import in_one_month, read_task

Array = NDArray[np.float64]

NUMBERS_PER_CHUNK = 2**23  # labels times places: 64 MB in float64
PLACES_PER_CHUNK = 8192
FEWEST_PLACES = 3
COVERAGE = 0.9  # the default
LINE = 88  # letters in a line of the summary
CITE = (
    "Barber, Candès, Ramdas and Tibshirani (2021), Predictive inference with the jackknife+. "
    "Annals of Statistics 49(1), doi 10.1214/20-AOS1965: the intervals",
    "Meyer and Pebesma (2021), Predicting into unknown space? Methods in Ecology and Evolution "
    "12(9), doi 10.1111/2041-210X.13650: where the map is trusted",
    "Roberts et al. (2017), Cross-validation strategies for data with temporal, spatial, "
    "hierarchical, or phylogenetic structure. Ecography 40(8), doi 10.1111/ecog.02881: the scores",
)
CITE_CLASSES = (
    "Romano, Sesia and Candès (2020), Classification with valid and adaptive coverage. NeurIPS "
    "33, arXiv 2006.02544: the sets of classes"
)
CITE_PROBE = {
    "ridge": "Hoerl and Kennard (1970), Ridge regression. Technometrics 12(1), doi "
    "10.1080/00401706.1970.10488634: the chosen model",
    "knn": "Shepard (1968), A two-dimensional interpolation function for irregularly-spaced data. "
    "ACM National Conference, doi 10.1145/800186.810616: the chosen model",
    "kriging": "Rasmussen and Williams (2006), Gaussian Processes for Machine Learning. MIT Press: "
    "kriging, the chosen model",
}
_TIED = (
    "Hecht, Arzoumanidis, Li and Dehbi (2026), Multi-modal contrastive learning for implicit Earth "
    "embeddings via location tying. arXiv 2606.20167: the encoder's method"
)
_SATCLIP = (
    "Klemmer et al. (2025), SatCLIP: Global, general-purpose location embeddings with satellite "
    "imagery. AAAI, arXiv 2311.17179: the encoder's method"
)
CITE_ENCODER = {
    "melt": _TIED,
    "salt": _TIED,
    "clip": _SATCLIP,
    "regression": "Müller, Evans, Schied and Keller (2022), Instant Neural Graphics Primitives "
    "with a Multiresolution Hash Encoding. ACM Transactions on Graphics 41, arXiv 2201.05989: the "
    "encoder's grid",
    "geoclip": "Vivanco Cepeda, Nayak and Shah (2023), GeoCLIP: Clip-inspired alignment between "
    "locations and images for effective worldwide geo-localization. NeurIPS, arXiv 2309.16020: the "
    "encoder",
}


@dataclass(frozen=True, eq=False)
class LocationMap(Outputs):
    """The result of `fit_map`: it predicts anywhere and reports how well.

    Attributes:
        task: the labels.
        chosen: name of the chosen candidate.
        reason: why it was chosen, in words.
        scores: a row for every candidate; columns candidate, encoder, features, probe, metric,
            block, block_low, block_high (95%, over blocks), random, chosen. The last row, "the
            choice", scores the whole procedure: for each fold, the candidate is chosen without that
            fold.
        coverage: share of labels inside their interval or set; a label whose class has no label in
            other folds counts as outside. Columns where ("held-out blocks" or "random folds"),
            nominal, measured, low, high (95%, over blocks; NaN if intervals are infinite),
            mean_width (of the interval, or number of classes in the set). The choice, the probe and
            the calibration do not see the held-out labels.
        held_out: for each label, the prediction without its block; columns lon, lat, block, fold,
            observed, predicted, inside, dissimilarity, trusted, nearest_label_km, and low, high or
            set, set_size.
        notes: what a reader of the map must know.
        cite: references to cite.
        metadata: encoder, sha256 of weights and labels, settings and versions, as plain values.
    """

    task: Task
    chosen: str
    reason: str
    scores: pd.DataFrame
    coverage: pd.DataFrame
    held_out: pd.DataFrame
    notes: list[str]
    cite: list[str]
    metadata: dict[str, Any]
    _function: Encoder = field(repr=False)
    _probe: ConformalProbe = field(repr=False)
    _applicability: Applicability = field(repr=False)

    @property
    def kind(self) -> str:
        return self.task.kind

    @property
    def unit(self) -> str:
        return self.task.unit

    @property
    def classes(self) -> tuple[str, ...] | None:
        return None if self.task.classes is None else tuple(self.task.classes)

    def predict(self, lonlat: LonLat, *, progress: bool = False) -> pd.DataFrame:
        """Predict at places `(M, 2)`, in chunks, so that memory stays small.

        Returns:
            One row for each place. For measurements: value, low, high. For classes: value (a name),
            p_NAME for each class (its probability), set (the names that the set holds, joined by
            "|") and set_size. For both: dissimilarity, trusted (whether it is within the
            threshold), and nearest_label_km.
        """
        points = check(lonlat).cpu()
        size = max(256, min(PLACES_PER_CHUNK, NUMBERS_PER_CHUNK // len(self.task.target)))
        starts = tqdm(range(0, len(points), size), "Predicting", disable=not progress)
        parts = [self._predict(points[start : start + size]) for start in starts]
        if not parts:
            return self._predict(self.task.lonlat[:1]).iloc[:0]
        return pd.concat(parts, ignore_index=True)

    def _predict(self, lonlat: LonLat) -> pd.DataFrame:
        x = checked_embedding(self._function, lonlat)
        predictions = self._probe.predict(x)
        columns = _answers(predictions, self.classes)
        if self.classes is not None:
            names = (f"p_{name}" for name in self.classes)
            columns |= zip(names, predictions.probabilities().T, strict=True)
        columns |= _trust(self._applicability, x)
        columns["nearest_label_km"] = nearest_label_km(lonlat, self.task.lonlat)
        return pd.DataFrame(columns)

    def summary(self) -> str:
        """The main facts, each in a paragraph."""
        task, lines = self.task, []
        blocks = self.coverage.iloc[0]
        if blocks["high"] < blocks["nominal"]:
            lines.append(
                f"Careful: on held-out blocks the {'sets' if task.classes else 'intervals'} hold "
                f"{blocks['measured']:.0%} of the labels, instead of {blocks['nominal']:.0%}."
            )
        what = f"{len(task.target)} labels of {task.name}"
        lines.append(what + (f" ({task.unit})" if task.unit else ""))
        lines.append(self.reason)
        choice = self.scores.iloc[-1]
        lines.append(
            f"Score on held-out blocks, choice included: {_score_text(choice)}; on random folds "
            f"{choice['random']:.2f}."
        )
        lines += [_coverage_text(row, task) for _, row in self.coverage.iterrows()]
        wrap = textwrap.TextWrapper(LINE, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(map(wrap.fill, [*lines, *self.notes]))

    __str__ = summary


def fit_map(
    encoder: Any,
    source: Any,
    target: str | None = None,
    *,
    lon: str | None = None,
    lat: str | None = None,
    month: int | None = None,
    kind: str | None = None,
    unit: str = "",
    invalid: str = "raise",
    coverage: float = COVERAGE,
    seed: int = 0,
    progress: bool = True,
) -> LocationMap:
    """Fit a map to labels: predictions anywhere, their intervals, and where not to trust them.

    Candidates are the encoder with ridge, nearest neighbours or kriging, the encoder with
    harmonics, and coordinates alone. The candidate that predicts held-out spatial blocks best is
    fitted to all labels.

    Args:
        encoder: as in `evaluate`; or a list of them; or ``"auto"``: "large", "small" and "best".
        source: a table, as in `read_task`; or a `Task`, without `target`.
        target: the column to predict.
        lon, lat, kind, unit, invalid: see `read_task`. With invalid="drop", rows of a table of
            embeddings that cannot be used are dropped too.
        month: 1 to 12, the month of the map, for encoders with a `time`.
        coverage: share of true values that intervals or sets should hold; for classes, where
            the true class has a label in other blocks.
        seed: determines the folds.
        progress: show a progress bar.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lonlat = rng.uniform([-10, 40], [30, 60], (50, 2))
        >>> north = Task("north", lonlat, lonlat[:, 1] + rng.normal(size=50))
        >>> fitted = fit_map("melt", north, progress=False)
        >>> fitted.predict([[10, 50]])[["value", "low", "high"]].round(0)
           value   low  high
        0   50.0  48.0  53.0
    """
    check_coverage(coverage)
    tried = candidates(encoder, month, invalid)
    if month is not None and not isinstance(source, Task):
        source = in_one_month(source, month)
    task = _task(source, target, lon=lon, lat=lat, kind=kind, unit=unit, invalid=invalid)
    fold, random, notes = _folds(task, coverage, seed)
    bar = tqdm(tried, "Trying candidates", disable=not progress)
    trials = [Trial(candidate, task, fold, random) for candidate in bar]
    chosen = best(trials, lambda trial: float(losses(task.target, trial.blocks).mean()))
    judge = _Judge(task)
    held_out, choices = _held_out(trials, task, fold, coverage, progress)
    scores = _scores(trials, chosen, judge, held_out)
    probe = conformal_probe(chosen.candidate.probe, chosen.x, task.target, fold, coverage)
    if task.classes:
        notes += _notes_on_sets(task, fold, held_out)
    return LocationMap(
        task,
        chosen.candidate.name,
        _reason(trials, chosen, judge, choices),
        scores,
        _coverage(chosen, task, fold, random, held_out, coverage, judge.blocks, progress),
        held_out,
        notes,
        _cite(chosen.candidate, task),
        _metadata(chosen.candidate, task, coverage, seed),
        chosen.candidate.function,
        probe,
        Applicability(chosen.x, probe.importance, fold),
    )


def _task(source: Any, target: str | None, **options: Any) -> Task:
    if isinstance(source, Task):
        if target is not None:
            raise ValueError(f"target={target!r}: a Task has its own target; leave it out")
        for name in ("lon", "lat", "kind", "unit"):
            if options[name]:
                raise ValueError(
                    f"{name}={options[name]!r} is for a table: leave it out for a Task"
                )
        if source.month is not None:
            raise ValueError(
                f"task {source.name!r} has months, and a map is of one: give a Task without month "
                "with the targets of that month, and month=7"
            )
        if source.classes is None:
            return source
        there = np.array(source.classes)[source.target]  # drops classes that have no label
        return replace(source, target=there, classes=None)
    if target is None:
        raise ValueError("target is missing: name the column to predict, such as target='ph'")
    return read_task(source, target, **options)


def _folds(
    task: Task, coverage: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Spatial folds, random folds, and notes about them."""
    places, labels = count_places(task.lonlat), len(task.target)
    fewest = max(fewest_labels(coverage), FEWEST_PLACES)
    if places < FEWEST_PLACES or labels < fewest:
        raise ValueError(
            f"task {task.name!r} has {labels} labels at {places} places: a map with coverage="
            f"{coverage:g} needs {fewest} labels at {FEWEST_PLACES} places or more; add labels, or "
            "pass a smaller coverage"
        )
    notes, side = [], block_degrees(task.lonlat)
    fold = possible_folds(task.lonlat, "block", seed)
    if side != BLOCK_DEGREES:
        size = f"{side:g} degrees high" if side else "single places"
        notes.append(
            f"The labels lie close together, so blocks are {size}: scores and coverage hold for "
            "places about as far from labels as the blocks are from each other."
        )
    return fold, possible_folds(task.lonlat, "random", seed), notes


class _Judge:
    """Scores of predictions, with intervals over spatial blocks."""

    def __init__(self, task: Task) -> None:
        self.target, self.blocks = task.target, block_index(task.lonlat)
        self.metric = "accuracy" if is_classification(task.target) else "r2"

    def score(self, predicted: NDArray[Any]) -> Interval:
        if self.metric == "accuracy":
            hits = 1 - losses(self.target, predicted)
            return block_bootstrap(np.stack([hits, np.ones_like(hits)], 1), self.blocks, share)
        return block_bootstrap(self._terms(predicted), self.blocks, r2)

    def difference(self, a: NDArray[Any], b: NDArray[Any]) -> Interval:
        """The score of a minus the score of b, on the same labels."""
        if self.metric == "accuracy":
            more = losses(self.target, b) - losses(self.target, a)
            return block_bootstrap(np.stack([more, np.ones_like(more)], 1), self.blocks, share)
        terms = self._terms(a)
        both = np.concatenate([self._terms(b)[:, :1], terms], axis=1)
        return block_bootstrap(
            both, self.blocks, lambda s: r2(s[..., 1:]) - r2(np.delete(s, 1, -1))
        )

    def _terms(self, predicted: NDArray[Any]) -> Array:
        spread = self.target.std()
        truth, error = (self.target - self.target.mean()) / spread, predicted - self.target
        return np.stack([(error / spread) ** 2, truth**2, truth, np.ones_like(truth)], 1)


def _held_out(
    trials: list[Trial], task: Task, fold: NDArray[np.int64], coverage: float, progress: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Predictions of each fold by a model that was chosen and fitted without the fold's labels."""
    parts, choices = [], []
    for outer in tqdm(np.unique(fold).tolist(), "Holding blocks out", disable=not progress):
        rest, here = fold != outer, fold == outer
        trial = best(trials, lambda trial: trial.nested[outer])  # noqa: B023
        choices.append(trial.candidate.name)
        left = np.where(here, LEFT_OUT, fold)
        probe = conformal_probe(trial.candidate.probe, trial.x, task.target, left, coverage)
        applicability = Applicability(trial.x[rest], probe.importance, fold[rest])
        lonlat, x = task.lonlat[here], trial.x[here]
        predictions = probe.predict(x)
        parts.append(
            pd.DataFrame(
                {
                    "row": np.flatnonzero(here),
                    "lon": lonlat[:, 0],
                    "lat": lonlat[:, 1],
                    "fold": outer,
                    "observed": _named(task.target[here], task.classes),
                    **_answers(predictions, task.classes),
                    "inside": predictions.hold(task.target[here]),
                    **_trust(applicability, x),
                    "nearest_label_km": nearest_label_km(lonlat, task.lonlat[rest]),
                }
            )
        )
    frame = pd.concat(parts).sort_values("row", ignore_index=True).drop(columns="row")
    frame.insert(2, "block", block_index(task.lonlat))
    return frame.rename(columns={"value": "predicted"}), choices


def _notes_on_sets(task: Task, fold: NDArray[np.int64], held_out: pd.DataFrame) -> list[str]:
    """What sets cannot do: hold a class without a label, and be small with too few labels."""
    target, classes = task.target, len(task.classes or ())
    notes = [f"Only the {classes} labelled classes can be predicted."]
    known = np.empty(len(target), bool)
    for each in np.unique(fold):
        here = fold == each
        known[here] = labelled(target, ~here)[target[here]]
    if not known.all():
        notes.append(
            f"{1 - known.mean():.0%} of the labels have a class without a label in other blocks: "
            "no set can hold it there. Of the other labels, the sets hold "
            f"{held_out['inside'][known].mean():.0%}."
        )
    size = held_out["set_size"].mean()
    if size > (1 + classes) / 2:
        notes.append(
            f"The sets hold {size:.1f} of {classes} classes on average: {len(target)} labels are "
            "too few to say more."
        )
    return notes


def _cite(candidate: Candidate, task: Task) -> list[str]:
    """The sources of what this map uses."""
    cited = [CITE_PROBE[candidate.probe], *CITE, *([CITE_CLASSES] if task.classes else [])]
    for part in getattr(candidate.function, "encoders", [candidate.function]):
        origin = getattr(part, "origin", {})
        method = origin.get("schedule") or type(part).__name__.lower()
        if origin.get("objective") == "regression":
            method = "regression"
        cited.append(CITE_ENCODER.get(method) or origin.get("citation", ""))
    return [each for each in dict.fromkeys(cited) if each]


def _answers(predictions: Predictions, classes: Sequence[str] | None) -> dict[str, Any]:
    """Value with interval, or class with set."""
    if classes is None:
        low, high = predictions.intervals().T
        return {"value": predictions.columns[:, 0], "low": low, "high": high}
    names, sets = np.array(classes), predictions.sets()
    distinct, which = np.unique(sets, axis=0, return_inverse=True)
    text = np.array(["|".join(names[row]) for row in distinct], dtype=object)
    best = predictions.columns.argmax(1)
    return {"value": names[best], "set": text[which], "set_size": sets.sum(1)}


def _trust(applicability: Applicability, x: NDArray[Any]) -> dict[str, Any]:
    index = applicability(x)
    return {"dissimilarity": index, "trusted": index <= applicability.threshold}


def _named(target: NDArray[Any], classes: Any) -> NDArray[Any]:
    return target if classes is None else np.array(classes)[target]


def _scores(
    trials: list[Trial], chosen: Trial, judge: _Judge, held_out: pd.DataFrame
) -> pd.DataFrame:
    rows = []
    for trial in trials:
        candidate = trial.candidate
        who = [candidate.name, candidate.encoder, candidate.features, candidate.probe]
        random = judge.score(trial.random).mean
        rows.append([*who, judge.metric, *judge.score(trial.blocks), random, trial is chosen])
    predicted = held_out["predicted"].to_numpy()
    if judge.metric == "accuracy":
        names, truth = held_out["observed"].to_numpy(), judge.target
        predicted = np.where(predicted == names, truth, -1)
    random = judge.score(chosen.random).mean
    rows.append(["the choice", "", "", "", judge.metric, *judge.score(predicted), random, False])
    score = ["block", "block_low", "block_high", "random"]
    columns = ["candidate", "encoder", "features", "probe", "metric", *score, "chosen"]
    return pd.DataFrame(rows, columns=columns)


def _coverage(
    chosen: Trial,
    task: Task,
    fold: NDArray[np.int64],
    random: NDArray[np.int64],
    held_out: pd.DataFrame,
    coverage: float,
    blocks: NDArray[np.int64],
    progress: bool,
) -> pd.DataFrame:
    """Measured coverage on held-out blocks, and of the same intervals on random folds."""
    inside, width = np.empty(len(fold), bool), np.empty(len(fold))
    for each in tqdm(np.unique(random), "Measuring coverage", disable=not progress):
        here = random == each
        left = np.where(here, LEFT_OUT, fold)
        probe = conformal_probe(chosen.candidate.probe, chosen.x, task.target, left, coverage)
        predictions = probe.predict(chosen.x[here])
        inside[here] = predictions.hold(task.target[here])
        width[here] = _width(pd.DataFrame(_answers(predictions, task.classes)))
    rows = []
    for where, hits, widths in (
        ("held-out blocks", held_out["inside"].to_numpy(), _width(held_out)),
        ("random folds", inside, width),
    ):
        terms = np.stack([hits, np.ones(len(hits))], 1)
        finite = np.isfinite(widths).all()  # an infinite interval holds everything: no evidence
        measured = block_bootstrap(terms, blocks, share) if finite else (np.nan,) * 3
        rows.append([where, coverage, *measured, widths.mean()])
    return pd.DataFrame(rows, columns=["where", "nominal", "measured", "low", "high", "mean_width"])


def _width(frame: pd.DataFrame) -> Array:
    if "set_size" in frame:
        return np.asarray(frame["set_size"], np.float64)
    return np.asarray(frame["high"] - frame["low"])


def _reason(trials: list[Trial], chosen: Trial, judge: _Judge, choices: list[str]) -> str:
    candidate, score = chosen.candidate, judge.score(chosen.blocks)
    same = sum(name == candidate.name for name in choices)
    said = (
        f"Chosen: {candidate.name}, which predicts held-out blocks best of {len(trials)} "
        f"candidates ({_text(judge.metric, score)}). With one fold left out, the choice was the "
        f"same in {same} of {len(choices)} cases."
    )
    if candidate.features == "constant":
        return f"{said} No candidate beats one value for all places."
    if candidate.encoder == COORDINATES:
        return f"{said} It uses coordinates alone: no encoder adds to them here."
    alone = best(
        [trial for trial in trials if trial.candidate.encoder == COORDINATES],
        lambda trial: float(losses(judge.target, trial.blocks).mean()),
    )
    more = judge.difference(chosen.blocks, alone.blocks)
    against = f"{alone.candidate.name} ({judge.score(alone.blocks).mean:.2f})"
    if more.low <= 0:
        return f"{said} Coordinates alone do as well, within the uncertainty: {against}."
    gain = f"{more.mean:.2f}, 95% interval {more.low:.2f} to {more.high:.2f}"
    return f"{said} Coordinates alone do worse: {against}; the difference is {gain}."


def _text(metric: str, score: Interval) -> str:
    name = {"r2": "R²", "accuracy": "accuracy"}[metric]
    return f"{name} {score.mean:.2f}, 95% interval {score.low:.2f} to {score.high:.2f}"


def _score_text(row: Any) -> str:
    return _text(row["metric"], Interval(row["block"], row["block_low"], row["block_high"]))


def _coverage_text(row: Any, task: Task) -> str:
    if math.isnan(row["measured"]):
        return (
            f"Coverage on {row['where']}: not measured. With one fold left out, the labels are too "
            "few for finite intervals."
        )
    size = f"mean width {row['mean_width']:.3g}{f' {task.unit}' if task.unit else ''}"
    if task.classes:
        size = f"mean size of a set {row['mean_width']:.1f} of {len(task.classes)} classes"
    return (
        f"Coverage on {row['where']}: {row['measured']:.1%} (95% interval {row['low']:.1%} to "
        f"{row['high']:.1%}; wanted {row['nominal']:.0%}), {size}."
    )


def _metadata(candidate: Candidate, task: Task, coverage: float, seed: int) -> dict[str, Any]:
    parts = [
        describe(part) for part in getattr(candidate.function, "encoders", [candidate.function])
    ]
    hashes = [part["weights_sha256"] for part in parts if "weights_sha256" in part]
    digest = hashlib.sha256(task.lonlat.numpy().tobytes() + task.target.tobytes())
    digest.update("\n".join(task.classes or ()).encode())
    return {
        **{name: value for part in reversed(parts) for name, value in part.items()},
        **({"weights_sha256": "+".join(hashes)} if hashes else {}),
        "encoder": candidate.encoder,
        "features": candidate.features,
        "probe": candidate.probe,
        "target": task.name,
        "unit": task.unit,
        "labels": len(task.target),
        "labels_sha256": digest.hexdigest(),
        "block_degrees": block_degrees(task.lonlat),
        "coverage": coverage,
        "seed": seed,
    }
