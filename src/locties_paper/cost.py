"""Estimate the cost of training and scoring from the published runs."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from locties_paper import results
from locties_paper.study import ARCHITECTURE

# Seconds on one core of a laptop: to start a notebook, and to score one encoder at 1,000 points on
# the tasks of a tier, with all labels and with each smaller number of labels.
START, ALL_LABELS, FEW_LABELS = 8.0, 0.5, 0.2


class Cost(NamedTuple):
    """The expected cost of a job. The fields are named like snakemake's resources."""

    seconds: float
    pairs: int = 0
    steps: int = 0
    gigaflops: int = 0


class Rates(NamedTuple):
    """The cost of training in the published runs.

    Attributes:
        flops_a_pair: floating-point operations for one pair, by modality.
        of_others: the mean over these modalities, for one without a published run.
        flops_a_second: mean over all runs.
        pretrain: the settings of these runs.
    """

    flops_a_pair: dict[str, float]
    of_others: float
    flops_a_second: float
    pretrain: dict[str, Any]


def rates(folder: str | Path = "") -> Rates:
    """Read the rates from the two-modality runs in a folder of results."""
    scores, histories = results.read(folder)
    last = histories.groupby(["encoder", "seed"])[["flops", "pairs", "seconds"]].max()
    totals = last.groupby("encoder").sum()
    alone = totals[totals.index.str.startswith("clip-")]
    a_pair = (alone["flops"] / alone["pairs"]).rename(lambda name: name.removeprefix("clip-"))
    return Rates(
        a_pair.to_dict(),
        float(a_pair.mean()),
        float(totals["flops"].sum() / totals["seconds"].sum()),
        results.design(folder)["profiles"][scores["profile"].iloc[0]]["pretrain"],
    )


def pretraining(run: Mapping[str, Any], measured: Rates) -> Cost:
    """The cost of a run of `study.runs`.

    A pair costs as much as in the published runs on its modality. A different encoder changes this
    by 6 operations for each weight; a different batch size, by 6 for each number of each
    candidate's embedding. Drawing fresh locations is not counted.
    """
    names = run["modalities"].split(",")
    more = _multiplications(run) - _multiplications(measured.pretrain)
    known = (measured.flops_a_pair.get(name, measured.of_others) for name in names)
    a_pair = sum(known) / len(names) + 6 * more
    flops = a_pair * run["pairs"]
    seconds = START + flops / measured.flops_a_second
    return Cost(seconds, run["pairs"], run["pairs"] // run["batch"], round(flops / 1e9))


def evaluating(contenders: int, points: int, labels: Iterable[Any]) -> Cost:
    """The cost of scoring encoders on the tasks of one tier."""
    each = ALL_LABELS + FEW_LABELS * (len(list(labels)) - 1)
    return Cost(START + contenders * each * points / 1000)


def _multiplications(run: Mapping[str, Any]) -> int:
    """Multiplications for one pair: the location encoder's forward pass, then the logits."""
    architecture = {name: run[name] for name in ARCHITECTURE if name in run}
    return _weights(repr(architecture)) + run["batch"] * run["dim"]


@cache
def _weights(architecture: str) -> int:
    from locties.encoder import LocationEncoder  # torch: the pipeline starts without it

    encoder = LocationEncoder(**ast.literal_eval(architecture))
    return sum(p.numel() for p in encoder.parameters() if p.ndim >= 2)
