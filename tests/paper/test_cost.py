"""What runs are expected to cost, beside what they took."""

import pandas as pd
import pytest

import locties
from locties_paper import cost, results, study
from locties_paper.site.notebook import REPOSITORY

STUDY = results.design()  # of the published rows


def by_name(profile: str, sweeps: str = "") -> dict[str, dict]:
    """One run of each name."""
    runs = study.runs(STUDY, profile, sweeps)
    return {name.rpartition("-")[0]: run for name, run in runs.items()}


def test_the_published_runs_cost_what_they_took():
    measured = cost.rates()
    histories = pd.read_parquet(REPOSITORY / "results" / "histories.parquet")
    last = histories.groupby(["encoder", "seed"]).max(numeric_only=True).groupby("encoder").mean()
    profile = pd.read_parquet(REPOSITORY / "results" / "runs.parquet")["profile"].iloc[0]
    runs = by_name(profile)
    expected = {name: cost.pretraining(runs[name], measured) for name in last.index}
    for name, found in expected.items():
        assert (found.pairs, found.steps) == (last["pairs"][name], last["step"][name])
        assert found.gigaflops == pytest.approx(last["flops"][name] / 1e9, rel=0.01), name
    total = sum(found.seconds - cost.START for found in expected.values())
    assert total == pytest.approx(last["seconds"].sum(), rel=0.01)


@pytest.mark.data
@pytest.mark.parametrize("name", ["degree-20", "cross-fourier-five-nt_xent"])
def test_the_cost_of_another_architecture_is_what_it_takes(name):
    run = by_name("smoke", "all")[name] | {"pairs": 256, "epochs": 1, "samples": 500}
    encoder = locties.LocationEncoder(**{k: run[k] for k in study.ARCHITECTURE if k in run})
    settings = {key: run[key] for key in ("pairs", "batch", "epochs", "samples")}
    run |= {"modalities": "relief"}
    trained = locties.pretrain("melt", ["relief"], encoder, **settings, progress=False)
    measured = trained.history["flops"].iloc[-1] * 1000 / 1e9
    expected = cost.pretraining(run | {"pairs": 256_000}, cost.rates())
    assert expected.gigaflops == pytest.approx(measured, rel=0.15)
