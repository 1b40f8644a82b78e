"""Model cards: every number is of the rows of these weights, every licence of the manifest."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties.data import manifest
from locties.data.manifest import manifest_hash
from locties.evaluation import TIERS, predict
from locties.evaluation.tasks import elevation
from locties.saved import published, read_card, read_config
from locties_paper import publish
from locties_paper.figures import cards
from locties_paper.geography import continents

METRIC = {"elevation": "r2", "biome": "accuracy"}
CELLS = list(product(["random", "block"], ["ridge", "knn"]))


def scores(name: str, level: float, sha256: str = "") -> pd.DataFrame:
    """Scores near `level` with their intervals, at all labels and at 50."""
    draw = np.random.default_rng(len(name))
    found = []
    for labels, task, (split, probe) in product(["all", "50"], METRIC, CELLS):
        value = level - 0.3 * (labels == "50") + draw.uniform(0, 0.05)
        row = {"encoder": name, "tier": "open", "task": task, "split": split, "probe": probe}
        row |= {"labels": labels, "sha256": sha256}
        for end, off in {"": 0.0, "_low": -0.1, "_high": 0.1}.items():
            found.append({**row, "metric": METRIC[task] + end, "value": value + off})
    return pd.DataFrame(found)


def errors(name: str, sha256: str) -> pd.DataFrame:
    """Errors by continent: Asia's is the largest in metres, Europe's as a share."""
    draws = {"elevation": (300.0, {"Asia": 410.0, "Europe": 90.0})}
    draws["country"] = (0.25, {"Asia": 0.1, "Europe": 0.5})
    lines = []
    for task, (land, by_group) in draws.items():
        row = {"encoder": name, "sha256": sha256, "task": task, "unit": "m" * (task == "elevation")}
        for group, value in {**by_group, "all land": land}.items():
            ends = {"low": 0.9 * value, "high": 1.2 * value}
            lines.append({**row, "group": group, "metric": "mae", "value": value, **ends})
    return pd.DataFrame(lines)


def save_run(folder: Path, modalities: list[str]) -> Path:
    made = locties.LocationEncoder("xyz", "linear", dim=4, seed=2)
    made.save(folder / "encoder")
    settings = {"schedule": "melt", "modalities": modalities, "encoder": made.config}
    settings |= {"pairs": 1280, "batch": 64, "epochs": 2, "learning_rate": 1e-3}
    settings |= {"decay": "cosine", "objective": "nt_xent", "objective_options": {}}
    settings |= {"locations": "fixed", "samples": 2000, "seed": 2, "device": "cpu"}
    settings |= {"precision": "float32", "seconds": 8.0}
    (folder / "settings.json").write_text(json.dumps(settings))
    history = {"step": [10, 20], "flops": [int(1.5e12), int(3e12)]}
    pd.DataFrame(history).to_parquet(folder / "history.parquet")
    return folder


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """The folder of a published encoder, with rows beside it under ``results``."""
    monkeypatch.setattr(publish, "commit", lambda: "abc")
    publish.publish(
        {"mine": save_run(tmp_path / "run", ["imagery", "relief"])}, tmp_path, tmp_path / "a.png"
    )
    sha256 = read_config(tmp_path / "mine")["sha256"]
    ahead = scores("raw", 0.2)
    cell = (ahead["task"] == "biome") & (ahead["split"] == "block") & (ahead["probe"] == "knn")
    ahead.loc[cell, "value"] += 0.6
    tables = [scores("mine", 0.6, sha256), scores("xyz", 0.2), ahead]
    tables += [scores("mine", 0.9, "older weights"), scores("other", 0.95, "of another")]
    (tmp_path / "results").mkdir()
    pd.concat(tables).to_parquet(tmp_path / "results" / "open_tasks.parquet")
    failing = [errors("mine", sha256), errors("mine", "older weights").assign(value=9e9)]
    pd.concat(failing).to_parquet(tmp_path / "results" / "continents.parquet")
    return tmp_path / "mine"


def card_of(shipped: Path) -> str:
    return cards.card(shipped, shipped.parent / "results")


def table_of(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with `first`."""
    (part,) = (part for part in text.split("\n\n") if part.startswith(f"| {first}"))
    lines = [[c.strip() for c in line[2:-2].split(" | ")] for line in part.splitlines()]
    return lines[2:]


def test_every_score_is_of_the_rows_of_these_weights(shipped):
    own = pd.read_parquet(shipped.parent / "results" / "open_tasks.parquet")
    own = own[own["sha256"] == read_config(shipped)["sha256"]]
    text = card_of(shipped)
    lines = table_of(text, "task | random folds | block folds")
    assert [line[0] for line in lines] == list(METRIC)
    for task, *cells in lines:
        for split, shown in zip(("random", "block"), cells, strict=True):
            here = own[(own["task"] == task) & (own["split"] == split) & (own["labels"] == "all")]
            wide = here.pivot_table("value", "probe", "metric")
            best, metric = wide[METRIC[task]].idxmax(), METRIC[task]
            value, low, high = wide.loc[best, [metric, f"{metric}_low", f"{metric}_high"]]
            assert shown == f"{value:.3f} ({low:.3f} to {high:.3f}) {best}"
    points = own[own["metric"].isin(METRIC.values())].groupby("labels")["value"].mean()
    assert table_of(text, "50 labels") == [[f"{points['50']:.3f}", f"{points['all']:.3f}"]]


def test_the_recipe_is_of_the_settings_the_history_and_the_files(shipped):
    recipe = dict(table_of(card_of(shipped), " | "))
    assert recipe["training"].startswith(
        "nt_xent; 1,280 pairs in 20 steps of 64, 2 epochs; 2,000 samples"
    )
    assert recipe["cost"] == "3.00 TFLOP, 8 s in float32 on cpu"
    assert recipe["run"].startswith(f"run, seed 2: locties {locties.__version__}+abc, torch ")
    assert recipe["run"].endswith(f"data {manifest_hash()[:12]}")
    weights = (shipped / "model.safetensors").read_bytes()
    sha256 = read_config(shipped)["sha256"]
    assert recipe["weights"] == f"16, in {len(weights):,} bytes of sha256 `{sha256}`"


def test_where_it_fails_counts_baselines_alone(shipped):
    text = card_of(shipped)
    assert table_of(text, "baseline") == [["raw", "1 of 8: biome 1"]]
    path = shipped.parent / "results" / "open_tasks.parquet"
    table = pd.read_parquet(path)
    table[table["encoder"] != "raw"].to_parquet(path)
    assert "In no cell" in card_of(shipped)


def test_where_it_fails_names_the_continent_with_the_largest_error(shipped):
    assert table_of(card_of(shipped), "task | worst on") == [
        ["elevation, m", "Asia", "410 (369 to 492)", "300 (270 to 360)"],
        ["country, error rate", "Europe", "0.5 (0.45 to 0.6)", "0.25 (0.225 to 0.3)"],
    ]


def test_an_encoder_without_rows_says_that_it_was_not_scored(shipped):
    text = cards.card(shipped, shipped.parent)
    assert "not scored yet" in text
    assert "locties.evaluate" in text
    assert "baseline" not in text


@pytest.mark.slow
@pytest.mark.data
def test_writing_a_card_measures_errors_out_of_fold_once(shipped, monkeypatch):
    """Against the mean absolute errors of `predict`, by continents looked up anew."""
    monkeypatch.setattr(cards, "POINTS", 1000)
    folder = shipped.parent / "results"
    path = folder / "continents.parquet"
    older = errors("other", "of another")
    older.to_parquet(path)
    cards.write([shipped], folder)
    table = pd.read_parquet(path)
    assert len(table[table["encoder"] == "other"]) == len(older)
    table = table[table["sha256"] == read_config(shipped)["sha256"]]
    assert set(table["task"]) == set(TIERS["embedded"])
    encoder, task = locties.load(shipped), elevation(points=1000)
    off = {p: np.abs(predict(encoder, task, "block", p) - task.target) for p in ("ridge", "knn")}
    squares = {probe: np.mean(errors**2) for probe, errors in off.items()}
    best = min(squares, key=squares.get)
    own = table[table["task"] == "elevation"].set_index("group")
    assert set(own["probe"]) == {best}
    where = continents(task.lonlat)
    for group in ("Africa", "Asia", "North America"):
        assert own.loc[group, "value"] == pytest.approx(off[best][where == group].mean())
        assert own.loc[group, "low"] < own.loc[group, "value"] < own.loc[group, "high"]
    assert own.loc["all land", "value"] == pytest.approx(off[best].mean())
    assert read_card(shipped) == cards.card(shipped, folder)

    def again(encoder):
        raise AssertionError(f"{encoder} was measured twice")

    monkeypatch.setattr(cards, "by_continent", again)
    cards.write([shipped], folder)


def test_the_length_is_the_embeddings_not_the_outputs(shipped):
    for readout, length in (("layers", 20), ("output", 4)):
        encoder = locties.LocationEncoder(
            "xyz", "mlp", 4, network_options={"hidden": 8}, readout=readout
        )
        encoder.origin = read_config(shipped)["origin"]
        encoder.save(shipped)
        text = card_of(shipped)
        assert f"in, {length} numbers out" in text
        assert f"# (1, {length})" in text
        assert ("readout" in dict(table_of(text, " | "))) == (readout == "layers")


def test_leakage_is_of_its_own_modalities(shipped):
    text = card_of(shipped)
    leak = "elevation (relief) leaks; air temperature, population, "
    assert f"Embedded tier: {leak}climate zone and country do not." in text
    assert (
        "Open tier: elevation (relief) and plant richness (relief) leak; air temperature, " in text
    )


def test_licences_and_citations_are_the_manifests(shipped):
    names = {name for modality in ("imagery", "relief") for name in cards.SOURCES[modality]}
    lines = table_of(card_of(shipped), "data | from")
    assert {name for line in lines for name in line[0].split(", ")} == names
    for group, where, licence, terms, citation in lines:
        for name in group.split(", "):
            source = manifest.source(name)
            assert (where, licence, terms) == (source.where, source.licence, source.terms)
            assert source.citation in citation


def test_what_is_published_is_the_run_and_its_picture(shipped):
    trained = locties.load(shipped.parent / "run" / "encoder")
    place = [[13.4, 52.5]]
    assert torch.allclose(locties.load(shipped)(place), trained(place), atol=0.01)  # as int8
    assert locties.load(shipped).origin["name"] == "mine"
    assert (shipped.parent / "a.png").stat().st_size > 1000


def test_code_that_was_not_committed_publishes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "commit", lambda: "abc-dirty")
    with pytest.raises(ValueError, match="abc-dirty is not committed: commit it"):
        publish.publish({"mine": save_run(tmp_path / "run", ["relief"])}, tmp_path)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", published())
def test_a_card_that_ships_is_what_the_rows_say(name):
    if read_config(name)["origin"].get("data") != manifest_hash():
        pytest.skip("its training data are of an earlier edition")
    assert read_card(name) == cards.card(name), f"run python -m locties_paper.figures.cards {name}"


def test_the_table_of_what_ships():
    table = cards.shipped().set_index("name")
    assert list(table.index) == published()
    assert table.loc["melt", "dim"] == locties.load("melt")([[13.4, 52.5]]).shape[1]
    assert read_config("melt")["sha256"].startswith(table.loc["melt", "sha256"])


def test_a_folded_card_has_its_tables_and_headings_below_those_of_a_page():
    page = cards.folded("melt")
    assert page.count("<details>") == page.count("</details>") == 1
    assert "<summary>Card of melt</summary>" in page
    assert "<h3>" in page
    assert "<h1>" not in page
    assert "<h2>" not in page
    assert '<table class="table">' in page
