"""The study as `experiments.yaml` describes it: complete and comparable."""

from itertools import product

import papermill
import pytest
import yaml

from locties._util.registry import check_options
from locties.objectives import OBJECTIVES
from locties_paper import cost, study
from locties_paper.effects import c1_parity, c2_modalities, c3_encoder, c4_peak, claims
from locties_paper.site.notebook import REPOSITORY

STUDY = yaml.safe_load((REPOSITORY / "experiments.yaml").read_text())
FIVE = study.modalities(STUDY)
PROFILES = list(STUDY["profiles"])
RATES = cost.rates()


@pytest.fixture(scope="module", params=PROFILES)
def everything(request) -> dict[str, dict]:
    return study.runs(STUDY, request.param, "all")


def by_name(runs: dict[str, dict]) -> dict[str, dict]:
    """One run of each name, without its seed."""
    return {
        name.rpartition("-")[0]: {k: v for k, v in run.items() if k != "seed"}
        for name, run in runs.items()
    }


def test_without_a_sweep_there_are_the_runs_of_the_book():
    smoke = study.runs(STUDY, "smoke")
    assert list(smoke) == [f"{name}-0" for name in STUDY["runs"]]
    assert smoke["salt-three-0"] == {
        **STUDY["profiles"]["smoke"]["pretrain"],
        "method": "salt",
        "modalities": "imagery,rain,toponyms",
        "seed": 0,
    }


def test_runs_of_two_names_differ(everything):
    seen: dict[str, str] = {}
    runs = by_name(everything)
    default = runs[STUDY["default"]]
    for name, run in runs.items():
        # A degree is named outright, and one of them is the profile's own.
        if not (name.startswith("degree-") and run == default):
            assert (other := seen.setdefault(repr(sorted(run.items())), name)) == name, other


def test_every_parameter_is_one_of_the_notebook(everything):
    known = set(papermill.inspect_notebook(str(REPOSITORY / "book/pretrain.ipynb")))
    assert set().union(*everything.values()) <= known


def test_every_run_can_be_trained(everything):
    """What `pretrain` refuses before any work, asked for every run of every profile."""
    for name, run in by_name(everything).items():
        options = run.get("objective_options") or {}
        check_options(OBJECTIVES[run.get("objective", "nt_xent")], options, name)
        assert run["pairs"] % run["batch"] == 0, name
        assert run["pairs"] // run["batch"] >= run["epochs"] >= 1, name
        modalities = run["modalities"].split(",")
        share = run["batch"] if run["method"] == "salt" else run["batch"] / len(modalities)
        assert share <= 0.8 * run["samples"], f"{name}: some samples are held out"
        assert cost.pretraining({**run, "modalities": "haze"}, RATES).gigaflops > 0, name


def test_the_sweep_of_the_claims_holds_all_that_they_need():
    runs = study.runs(STUDY, "study", "claims")
    seeds = STUDY["profiles"]["study"]["seeds"]
    needed = {run for claim in claims.CLAIMS.values() for run in claim.needs(FIVE)}
    for claim in claims.CLAIMS.values():
        own = {f"{run}-{seed}" for run, seed in product(claim.needs(FIVE), seeds[: claim.seeds])}
        assert own <= set(runs), claim.name
    assert set(by_name(runs)) == needed, "the sweep has runs that no claim reads"
    assert all(seed < study.FIRST_PILOT_SEED for seed in seeds)
    pilot = study.runs(STUDY, "study", "pilot")
    for run in claims.CLAIMS["C1"].needs(FIVE):
        of_run = [seed for name, seed in (n.rsplit("-", 1) for n in pilot) if name == run]
        assert len(of_run) >= c1_parity.PILOT_SEEDS
        assert all(int(seed) >= study.FIRST_PILOT_SEED for seed in of_run)


def test_pairs_are_equal_where_a_claim_compares(everything):
    runs = by_name(everything)
    for claim in ("C1", "C3", "C5"):
        assert len({runs[name]["pairs"] for name in claims.CLAIMS[claim].needs(FIVE)}) == 1, claim
    for budget, sizes in c2_modalities.budgets(FIVE).items():
        parts = [
            runs[name]["pairs"] / (1 if budget == "equal pairs" else size)
            for size, names in sizes.items()
            for name in names
        ]
        assert max(parts) <= 1.02 * min(parts), budget
    methods = {runs[name]["method"] for name in claims.CLAIMS["C2"].needs(FIVE)}
    assert methods == {"melt"}, "the direction of the loss is held fixed"


def test_the_crossed_runs_differ_in_their_factors_alone(everything):
    runs = by_name(everything)
    levels = [
        ("features", "feature_options", "network"),
        ("modalities",),
        ("objective",),
    ]
    crossed = {
        combination: runs[c3_encoder.crossed_run(*combination)]
        for combination in product(*c3_encoder.FACTORS.values())
    }
    for (one, a), (other, b) in product(crossed.items(), repeat=2):
        same = [x == y for x, y in zip(one, other, strict=True)]
        allowed = {key for i, keys in enumerate(levels) if not same[i] for key in keys}
        assert {key for key in a | b if a.get(key) != b.get(key)} <= allowed, (one, other)
        for i, keys in enumerate(levels):
            assert same[i] == all(a.get(key) == b.get(key) for key in keys), (one, other)


def test_runs_along_training_keep_encoders_early_and_at_the_end(everything):
    runs = by_name(everything)
    for name in c4_peak.ALONG:
        run = runs[name]
        assert run["decay"] == "constant"
        steps = run["pairs"] // run["batch"]
        shares = [epoch * steps // run["epochs"] / steps for epoch in run["kept"]]
        assert sum(share <= c4_peak.EARLY for share in shares) >= 2
        assert shares[-1] == 1


def test_options_are_added_to_those_of_the_profile():
    profiles = {"tiny": {"seeds": [0], "pretrain": {"network_options": {"hidden": 8}}}}
    deep = {"more": {"network_options.layers": 3}}
    wide = {"more": {"network_options.hidden": 9}}
    sweeps = {"width": {"all": deep, "factors": [{"deep": {}, "wide": wide}]}}
    described = {"profiles": profiles, "runs": {"all": deep}, "default": "all", "sweeps": sweeps}
    found = study.runs(described | {"groups": {}}, "tiny", "width")
    assert found["deep-0"]["network_options"] == {"hidden": 8, "layers": 3}
    assert found["wide-0"]["network_options"] == {"hidden": 9, "layers": 3}
    plain = study.runs(described | {"groups": {}}, "tiny")
    assert plain["all-0"]["network_options"] == {"hidden": 8, "layers": 3}


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown sweep 'calims': did you mean 'claims'"):
        study.runs(STUDY, "smoke", "calims")


def test_two_runs_of_one_name_are_an_error():
    twice = {"factors": [{"melt-all": {"batch": 7}}]}
    with pytest.raises(ValueError, match="two runs are called 'melt-all'"):
        study.runs({**STUDY, "sweeps": {**STUDY["sweeps"], "twice": twice}}, "smoke", "c5")


def test_a_factor_changes_one_thing_from_the_default(everything):
    runs = by_name(everything)
    default = runs[STUDY["default"]]
    own = {
        "modalities": {"modalities"},
        "encoders": {"features", "feature_options", "network", "network_options"},
        "degree": {"feature_options"},
        "objectives": {"objective", "objective_options"},
        "pairs": {"pairs", "epochs"},
        "samples": {"samples"},
        "locations": {"locations", "method"},
        "batch": {"batch"},
        "learning_rate": {"learning_rate"},
        "epochs": {"epochs", "method"},
    }
    assert list(own) == STUDY["groups"]["factors"]
    for sweep, keys in own.items():
        names = {*study._combinations(STUDY, STUDY["sweeps"][sweep])}
        assert len(names) >= 2
        for name in names:
            run = runs[name]
            assert {k for k in run | default if run.get(k) != default.get(k)} <= keys, name


def test_the_recipe_loses_one_part_at_a_time():
    runs = by_name(study.runs(STUDY, "study", "recipe"))
    whole, default = runs.pop("recipe-whole"), runs.pop("recipe-default")
    wide, untrained, kept = (runs.pop(f"recipe-{name}") for name in ("wide", "untrained", "kept"))
    parts = {key for key in whole if whole[key] != default.get(key)}
    assert parts == {"objective", "readout", "network_options", "locations"}
    lost = [{key for key in run if run[key] != whole[key]} for run in runs.values()]
    assert sorted(lost, key=str) == sorted(({part} for part in parts), key=str)
    layers = 1 + whole["network_options"]["layers"]
    assert wide["dim"] == layers * whole["dim"] == layers * whole["network_options"]["hidden"]
    assert untrained["learning_rate"] * untrained["pairs"] / untrained["batch"] < 1e-7
    best = by_name(study.runs(STUDY, "study"))["best"]
    for key in {*best, *kept} - {"modalities"}:
        usual = {"objective": "nt_xent", "locations": "fixed"}.get(key)
        assert best.get(key, usual) == kept.get(key, usual), key
