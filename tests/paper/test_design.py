"""The design: what is a pilot place, and which runs there are."""

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties import Task
from locties_paper import design
from locties_paper.results import PUBLISHED_ROWS
from locties_paper.sweeps import BEST, STRONGEST, SWEEPS


def places(n: int, seed: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform([-180, -60], [180, 60], (n, 2)))


def test_a_fifth_of_all_places_are_pilots_and_the_same_in_every_task():
    lonlat = places(5000, 0)
    first = design.is_pilot(Task("a", lonlat, lonlat[:, 1]))
    assert first.mean() == pytest.approx(0.2, abs=0.02)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    other = design.is_pilot(Task("b", lonlat[order].float().double(), lonlat[order, 0]))
    assert (first[order.numpy()] == other).all()


@pytest.mark.data
def test_no_table_uses_a_pilot_place():
    pilots = {t.name: t for t in design.tasks("embedded", design.PILOT_DRAW)}
    for draw in range(2):
        for task in design.tasks("embedded", draw):
            assert not design.is_pilot(task).any(), task.name
            assert design.is_pilot(pilots[task.name]).all(), task.name
            assert task.classes is None or min(np.bincount(task.target)) >= 25


def test_draws_have_other_points():
    first, second = (design.tasks("embedded", draw)[0] for draw in (0, 1))
    assert len(set(map(tuple, first.lonlat.tolist())) & set(map(tuple, second.lonlat.tolist()))) < 9


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_contender_can_start_and_no_replicate_shares_a_seed_or_draw_with_the_pilot(sweep):
    for name, each in SWEEPS[sweep].contenders.items():
        assert each.name == name
        assert each.start(3).network_dim == 256
        seeds = [seed for seed, _ in each.replicates]
        draws = [draw for _, few in each.replicates for draw in few]
        assert len(set(seeds)) == len(seeds) >= 3
        if sweep == "recipe":  # chooses how to train, so on pilot places alone
            assert set(draws) == {design.PILOT_DRAW}
            assert not set(seeds) & set(range(design.FIRST_SEED, design.FIRST_SEED + 50))
        else:
            assert design.PILOT_SEED not in seeds
            assert design.PILOT_DRAW not in draws


@pytest.mark.parametrize("sweep", ["main", "crossed"])
def test_the_answer_rests_on_all_draws(sweep):
    for each in SWEEPS[sweep].contenders.values():
        draws = [draw for _, few in each.replicates for draw in few]
        assert draws == list(range(design.REPLICATES))


def test_a_budget_scales_pairs_and_turns_of_salt():
    salt = SWEEPS["main"].contenders["salt"]
    small, whole = (salt.arguments(budget, seed=1) for budget in (1 / 16, 1.0))
    assert (small["pairs"], whole["pairs"]) == (28_800, 460_800)
    assert (small["epochs"], whole["epochs"]) == (5, 15)  # whole rounds of five modalities


def test_the_paper_has_its_own_settings():
    salt = SWEEPS["paper"].contenders["paper-salt"]
    arguments = salt.arguments(*salt.budgets, seed=1)
    assert (arguments["pairs"], arguments["batch"], arguments["epochs"]) == (5_000_000, 2048, 50)
    assert salt.start(0).config["feature_options"] == {"degree": 40}


def test_batches_are_compared_at_equal_steps():
    contenders = SWEEPS["scale"].contenders
    steps = set()
    for batch in (256, 512, 1024, 2048, 4096):
        each = contenders[f"batch_{batch}"]
        arguments = each.arguments(*each.curve, seed=1)
        assert arguments["batch"] == batch
        steps.add(arguments["pairs"] / batch)
    assert steps == {450}


def test_modalities_are_counted_at_equal_pairs_in_all_and_of_each():
    contenders = SWEEPS["counts"].contenders
    assert sorted(len(each.modalities) for each in contenders.values()) == [1] * 5 + [3] * 5 + [5]
    for each in contenders.values():
        own, whole = min(each.curve), max(each.curve)
        assert own / len(each.modalities) == pytest.approx(1 / 20)
        assert whole == pytest.approx(1 / 4)


def test_each_leaking_modality_is_left_out():
    kept = {name: set(each.modalities) for name, each in SWEEPS["left_out"].contenders.items()}
    assert kept["melt-without-relief"] == {"imagery", "rain", "haze", "toponyms"}
    leaking = [set(found) & set(design.FIVE) for found in design.LEAKING["open"].values()]
    for found in filter(None, leaking):
        assert set(design.FIVE) - found in kept.values()


def test_probes_are_at_the_budgets_that_the_pilot_chose():
    chosen = pd.read_parquet(PUBLISHED_ROWS / "study_main_chosen.parquet")
    best = chosen.set_index("contender")["budget"]
    assert {name: best[name] for name in BEST} == BEST
    assert design.strongest(chosen) == STRONGEST
    contenders = SWEEPS["probes"].contenders
    assert {name: each.budgets for name, each in contenders.items()} == {
        name: (best[name],) for name in contenders
    }


def test_a_modality_alone_has_the_pairs_that_it_has_in_joint_training():
    contenders = SWEEPS["own"].contenders
    joint = contenders["melt"].curve
    assert contenders["salt"].curve == contenders["regression"].curve == joint
    for name in design.FIVE:
        alone = contenders[f"clip-{name}"].curve
        assert {budget / 5 for budget in joint} | {BEST[f"clip-{name}"]} == set(alone)
        assert set(contenders[f"regression-{name}"].curve) <= set(alone)


@pytest.mark.slow
@pytest.mark.data
def test_regression_takes_a_quarter_of_the_operations_of_melt():
    """C4 compares the two at equal operations."""
    flops = {}
    for name in ("melt", "regression"):
        each = SWEEPS["main"].contenders[name]
        arguments = each.arguments(1 / 16, seed=0) | {"pairs": 1024, "epochs": 1, "samples": 1024}
        run = locties.pretrain(**arguments, encoder=each.start(0), device="cpu", progress=False)
        flops[name] = run.history["flops"].iloc[-1]
    assert flops["melt"] / flops["regression"] == pytest.approx(4, rel=0.05)
