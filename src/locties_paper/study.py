"""The runs of the study, as `experiments.yaml` describes them, and what they cost.

A sweep is every combination of the levels of its factors. Each level changes some parameters of the
default run:

    volume:
      name: volume
      factors: [{half: {times: {pairs: 0.5}}, double: {times: {pairs: 2}}}]

makes the runs volume-half and volume-double. Keys of a sweep: ``factors``; ``name``, with which the
names of its runs begin; ``all``, what each of its runs changes; ``called``, combinations that are
another run; ``runs``, others that belong to it; ``seeds``, the profile's list of seeds; ``first``,
of how many of these, where not of all. In a run or a level, ``times`` multiplies numbers of the
profile, and ``each`` there stands for the share of the default's modalities that the run has;
``more`` sets options beside the profile's own, as in ``more: {network_options.layers: 3}``.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from locties._util.registry import unknown
from locties.encoder import LocationEncoder
from locties_paper import results

ARCHITECTURE = ("features", "network", "dim", "feature_options", "network_options", "readout")
# Seconds on a core of a laptop: to start a notebook, and to judge one encoder at 1,000 points, with
# all labels and with each smaller number of them, on the four tasks of a tier.
START, ALL_LABELS, FEW_LABELS = 8.0, 0.5, 0.2


def runs(study: Mapping[str, Any], profile: str, sweeps: str = "") -> dict[str, dict[str, Any]]:
    """The parameters of every pretraining, by "<name>-<seed>".

    Args:
        study: content of `experiments.yaml`.
        profile: name in it.
        sweeps: names of sweeps and of groups of them, separated by commas; "all" for every one.
            None named: the runs that the book shows.

    Raises:
        ValueError: a sweep that is unknown, or two runs of one name.

    Example:
        >>> profiles = {"tiny": {"seeds": [0], "pretrain": {"pairs": 100, "batch": 10}}}
        >>> study = {"profiles": profiles, "runs": {"all": {"modalities": "a,b"}}, "default": "all",
        ...          "groups": {}, "sweeps": {"volume": {"name": "volume", "factors": [
        ...              {"half": {"times": {"pairs": 0.5}}}]}}}
        >>> runs(study, "tiny", "volume")
        {'volume-half-0': {'pairs': 50, 'batch': 10, 'modalities': 'a,b', 'seed': 0}}
    """
    settings = study["profiles"][profile]
    found: dict[str, dict[str, Any]] = {}
    if not sweeps:
        chosen: list[Mapping[str, Any]] = [{"runs": list(study["runs"])}]
    else:
        chosen = [study["sweeps"][name] for name in _named(study, sweeps)]
    described = _described(study, settings["pretrain"])
    for sweep in chosen:
        called = [*sweep.get("runs", []), *_combinations(study, sweep)]
        seeds = settings[sweep.get("seeds", "seeds")][: sweep.get("first")]
        for name, seed in product(called, seeds):
            if name not in described:
                raise unknown("run", name, described)
            found[f"{name}-{seed}"] = {**described[name], "seed": seed}
    return found


def run_names(study: Mapping[str, Any], sweep: str) -> list[str]:
    """What the runs of a sweep are called, without their seeds, in its order.

    Args:
        study: content of `experiments.yaml`.
        sweep: one of its sweeps.

    Raises:
        ValueError: a sweep that is unknown.

    Example:
        >>> study = {"sweeps": {"volume": {"runs": ["all"], "name": "volume", "factors": [
        ...     {"half": {"times": {"pairs": 0.5}}}]}}}
        >>> run_names(study, "volume")
        ['all', 'volume-half']
    """
    if sweep not in study["sweeps"]:
        raise unknown("sweep", sweep, study["sweeps"])
    described = study["sweeps"][sweep]
    return [*described.get("runs", []), *_combinations(study, described)]


def _named(study: Mapping[str, Any], text: str) -> list[str]:
    names: list[str] = []
    for name in text.split(","):
        if name == "all":
            names += study["sweeps"]
        elif name in study["groups"]:
            names += study["groups"][name]
        elif name in study["sweeps"]:
            names.append(name)
        else:
            raise unknown("sweep", name, ["all", *study["groups"], *study["sweeps"]])
    return list(dict.fromkeys(names))


def _combinations(study: Mapping[str, Any], sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each run of a sweep changes, by name."""
    if "factors" not in sweep:
        return {}
    found = {}
    for levels in product(*(factor.items() for factor in sweep["factors"])):
        labels = [sweep.get("name", ""), *(str(label) for label, _ in levels)]
        name = "-".join(label for label in labels if label)
        changes: dict[str, Any] = {}
        for change in (sweep.get("all", {}), *(change for _, change in levels)):
            nested = {
                key: {**changes[key], **change[key]}
                for key in ("times", "more")
                if key in changes and key in change
            }
            changes |= change | nested
        found[sweep.get("called", {}).get(name, name)] = changes
    return found


def _described(study: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of every run of the study, by name."""
    default = study["runs"][study["default"]]
    found = {name: _derived({**usual, **run}, default) for name, run in study["runs"].items()}
    for sweep in study["sweeps"].values():
        for name, changes in _combinations(study, sweep).items():
            run = _derived({**usual, **default, **changes}, default)
            if found.setdefault(name, run) != run:
                raise ValueError(f"two runs are called {name!r}, with different parameters")
    return found


def _derived(run: dict[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """A run's parameters where some are given as what to do with the profile's."""
    for path, value in run.pop("more", {}).items():
        name, option = path.split(".")
        run[name] = {**run[name], option: value}
    times = run.pop("times", {})
    for name, factor in times.items():
        if factor == "each":
            factor = len(run["modalities"].split(",")) / len(default["modalities"].split(","))
        value = run[name] * factor
        run[name] = max(1, round(value)) if isinstance(run[name], int) else value
    if "pairs" in times:  # whole batches, so that runs see just the pairs that they are said to
        run["pairs"] = round(run["pairs"] / run["batch"]) * run["batch"]
    return run


class Cost(NamedTuple):
    """What a job is expected to take; the names are those of Snakemake's resources.

    Attributes:
        seconds: on one core or device like that of the published runs.
        pairs: that it trains on.
        steps: of the optimiser.
        gigaflops: of these steps.
    """

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
    """Measured costs, from the histories of the two-modality baselines in a folder of results."""
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
    """The cost of a run of `runs`, from what the published ones took.

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
    """A pair's, in the forward pass through the location encoder and to the batch's logits."""
    own = {name: run[name] for name in ARCHITECTURE if name in run}
    return _weights(repr(own)) + run["batch"] * own["dim"]


@cache
def _weights(architecture: str) -> int:
    encoder = LocationEncoder(**ast.literal_eval(architecture))
    return sum(p.numel() for p in encoder.parameters() if p.ndim >= 2)


def plan(dry_run: str, cores: int) -> str:
    """What a dry run of Snakemake would do, with the costs that its jobs name.

    Example:
        >>> print(plan('''rule pretrain:
        ...     resources: tmpdir=folder, seconds=5400, pairs=1000, steps=10, gigaflops=2000
        ... localrule results:
        ...     resources: tmpdir=folder''', cores=2))
        2 jobs: pretrain 1, results 1
        1,000 pairs in 10 steps, 2.0 TFLOP
        about 1.5 hours of one core, 0.8 on 2
    """
    rules = re.findall(r"^\s*(?:local)?rule (\w+):", dry_run, re.MULTILINE)
    named = pd.Series(rules, dtype=str).value_counts(sort=False)
    total = {name: sum(map(int, re.findall(rf"\b{name}=(\d+)", dry_run))) for name in Cost._fields}
    hours = total["seconds"] / 3600
    return "\n".join(
        [
            f"{len(rules)} jobs: " + ", ".join(f"{rule} {n}" for rule, n in named.items()),
            f"{total['pairs']:,} pairs in {total['steps']:,} steps, "
            f"{total['gigaflops'] / 1000:,.1f} TFLOP",
            f"about {hours:.1f} hours of one core, {hours / cores:.1f} on {cores}",
        ]
        if rules
        else ["nothing is left to do"]
    )


if __name__ == "__main__":  # python -m locties_paper.study CORES snakemake --dry-run ...
    done = subprocess.run(
        sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout)
    print(plan(done.stdout, int(sys.argv[1])))
