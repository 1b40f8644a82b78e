"""What training and scoring are expected to cost, from what the published runs took."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from locties.encoder import LocationEncoder
from locties_paper import results
from locties_paper.study import ARCHITECTURE

# Seconds on one core of a laptop: to start a notebook, and to judge one encoder at 1,000 points on
# the four tasks of a tier, with all labels and with each smaller number of them.
START, ALL_LABELS, FEW_LABELS = 8.0, 0.5, 0.2


class Cost(NamedTuple):
    """What a job is expected to take; the names are those of snakemake's resources."""

    seconds: float
    pairs: int = 0
    steps: int = 0
    gigaflops: int = 0


class Rates(NamedTuple):
    """What training cost in the published runs.

    Attributes:
        flops_a_pair: by modality.
        flops_a_second: of all runs together.
        pretrain: the profile's parameters that they had.
    """

    flops_a_pair: dict[str, float]
    flops_a_second: float
    pretrain: dict[str, Any]


def rates(study: Mapping[str, Any], folder: str | Path = "") -> Rates:
    """Costs measured in a folder of results, by the two-modality runs there."""
    scores, histories = results.read(folder)
    last = histories.groupby(["encoder", "seed"])[["flops", "pairs", "seconds"]].max()
    totals = last.groupby("encoder").sum()
    alone = totals[totals.index.str.startswith("clip-")]
    return Rates(
        (alone["flops"] / alone["pairs"]).rename(lambda name: name.removeprefix("clip-")).to_dict(),
        float(totals["flops"].sum() / totals["seconds"].sum()),
        study["profiles"][scores["profile"].iloc[0]]["pretrain"],
    )


def pretraining(run: Mapping[str, Any], measured: Rates) -> Cost:
    """The cost of a run of `study.runs`.

    A pair takes the floating-point operations of the published runs on its modality, plus what the
    location encoder and the logits of the batch take more or less than theirs: 6 for each weight
    and for each number of a candidate's embedding. Drawing fresh locations is not counted.
    """
    names = run["modalities"].split(",")
    more = _multiplications(run) - _multiplications(measured.pretrain)
    a_pair = sum(measured.flops_a_pair[name] for name in names) / len(names) + 6 * more
    flops = a_pair * run["pairs"]
    seconds = START + flops / measured.flops_a_second
    return Cost(seconds, run["pairs"], run["pairs"] // run["batch"], round(flops / 1e9))


def evaluating(contenders: int, points: int, labels: Iterable[Any]) -> Cost:
    """The cost of judging encoders on the tasks of one tier."""
    each = ALL_LABELS + FEW_LABELS * (len(list(labels)) - 1)
    return Cost(START + contenders * each * points / 1000)


def _multiplications(run: Mapping[str, Any]) -> int:
    """Of one pair, in the forward pass through the location encoder and to the logits."""
    own = {name: run[name] for name in ARCHITECTURE if name in run}
    return _weights(repr(own)) + run["batch"] * own["dim"]


@cache
def _weights(architecture: str) -> int:
    encoder = LocationEncoder(**ast.literal_eval(architecture))
    return sum(p.numel() for p in encoder.parameters() if p.ndim >= 2)
