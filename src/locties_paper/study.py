"""The runs of the study, from `experiments.yaml`.

A sweep holds every combination of the levels of its factors. A level changes some parameters of the
default run:

    volume:
      name: volume
      factors: [{half: {times: {pairs: 0.5}}, double: {times: {pairs: 2}}}]

makes the runs volume-half and volume-double. Keys of a sweep:

- ``factors``: a list of levels by name;
- ``name``: prefix of the names of its runs;
- ``all``: changes for all its runs;
- ``called``: combinations that already exist as a run of another name;
- ``runs``: other runs that belong to it;
- ``seeds``: one of the profile's lists of seeds; ``first``: the number of seeds to take.

In a run or a level, ``times`` multiplies numbers of the profile. The factor ``each`` is the run's
share of the default's modalities. ``more`` sets options beside the profile's own, as in
``more: {network_options.layers: 3}``.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from locties._util.registry import unknown

FIRST_PILOT_SEED = 100
PILOT_POINTS = 1  # the seed of the pilot's own points

# The parameters of a run that describe its encoder.
ARCHITECTURE = ("features", "network", "dim", "feature_options", "network_options", "readout")


def runs(study: Mapping[str, Any], profile: str, sweeps: str = "") -> dict[str, dict[str, Any]]:
    """The parameters of every pretraining run, by "<name>-<seed>".

    Args:
        study: content of `experiments.yaml`.
        profile: name in it.
        sweeps: names of sweeps or groups, separated by commas, or "all". Empty for the book's own
            runs.

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
    """The names of a sweep's runs in its order, without seeds."""
    if sweep not in study["sweeps"]:
        raise unknown("sweep", sweep, study["sweeps"])
    described = study["sweeps"][sweep]
    return [*described.get("runs", []), *_combinations(study, described)]


def modalities(study: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities of the default run, in its order."""
    return tuple(study["runs"][study["default"]]["modalities"].split(","))


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
    """The changes of each run of a sweep, by name."""
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
    """A run's parameters, after its ``more`` and ``times``."""
    for path, value in run.pop("more", {}).items():
        name, option = path.split(".")
        run[name] = {**run[name], option: value}
    times = run.pop("times", {})
    for name, factor in times.items():
        if factor == "each":
            factor = len(run["modalities"].split(",")) / len(default["modalities"].split(","))
        value = run[name] * factor
        run[name] = max(1, round(value)) if isinstance(run[name], int) else value
    if "pairs" in times:  # whole batches, so that a run sees exactly this number
        run["pairs"] = round(run["pairs"] / run["batch"]) * run["batch"]
    return run
