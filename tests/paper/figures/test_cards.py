"""Model cards: every number is of the rows, every licence of the manifest, and what ships is whole.

What is expected is computed here from the Parquet files anew, not by the library's readers.
"""

import functools
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import locties
from locties.data import manifest
from locties.evaluation import TIERS, predict
from locties.evaluation.tasks import elevation
from locties.saved import PUBLISHED, published, read_card, read_config
from locties_paper import publish, results
from locties_paper.figures import cards
from locties_paper.geography import continents
from locties_paper.site.notebook import REPOSITORY

STUDY = results.design()  # of the published rows
TASKS = {"embedded": ["elevation", "country"], "open": ["elevation", "biome"]}
METRIC = {"elevation": "r2", "country": "accuracy", "biome": "accuracy"}
CELLS = list(product(["random", "block"], ["ridge", "knn"]))


def rows(name: str, seeds: range | list[int], level: float, seconds: float = 9.0) -> pd.DataFrame:
    """Scores near `level`, with their intervals, at all labels and at 50."""
    draw = np.random.default_rng(len(name) + 10 * len(seeds))
    found = []
    for seed, tier, labels in product(seeds, TASKS, ["all", "50"]):
        for task, (split, probe) in product(TASKS[tier], CELLS):
            value = level - 0.3 * (labels == "50") + draw.uniform(0, 0.05)
            row = {"encoder": name, "tier": tier, "task": task, "split": split, "probe": probe}
            row |= {"labels": labels, "seed": seed, "points_seed": 0}
            row |= {"profile": "tiny", "data": "d" * 64}
            row |= {"code": "0.1.0+abc", "torch": "2.13.0", "python": "3.11.7", "seconds": seconds}
            ends = {"": 0.0, "_low": -0.1, "_high": 0.1}
            found += [
                {**row, "metric": METRIC[task] + end, "value": value + off}
                for end, off in ends.items()
            ]
    return pd.DataFrame(found)


def history(name: str, seeds: range | list[int]) -> pd.DataFrame:
    lines = [
        {"epoch": epoch, "step": 10 * epoch, "pairs": 640 * epoch, "flops": 1.5e12 * epoch}
        | {"seconds": 4.0 * epoch, "encoder": name, "seed": seed}
        for seed, epoch in product(seeds, (1, 2))
    ]
    return pd.DataFrame(lines)


def errors(name: str, seed: int) -> pd.DataFrame:
    """Errors by continent: Asia's is the largest in metres, Europe's as a share."""
    draws = {"elevation": (300.0, {"Asia": 410.0, "Europe": 90.0})}
    draws["country"] = (0.25, {"Asia": 0.1, "Europe": 0.5})
    lines = []
    for task, (land, by_group) in draws.items():
        row = {"encoder": name, "seed": seed, "task": task, "probe": "knn", "points": 100}
        row |= {"unit": "m" * (task == "elevation"), "blocks": 9}
        for group, value in {**by_group, "all land": land}.items():
            ends = {"low": 0.9 * value, "high": 1.2 * value}
            lines.append({**row, "group": group, "metric": "mae", "value": value, **ends})
    return pd.DataFrame(lines)


def save_run(folder: Path, modalities: list[str], method: str) -> Path:
    made = locties.LocationEncoder("xyz", "linear", dim=4, seed=2)
    made.save(folder / "encoder")
    settings = {"schedule": method, "modalities": modalities, "encoder": made.config}
    settings |= {"pairs": 1280, "batch": 64, "epochs": 2, "learning_rate": 1e-3}
    settings |= {"decay": "cosine", "objective": "nt_xent", "objective_options": {}}
    settings |= {"locations": "fixed", "samples": 2000, "seed": 2, "device": "cpu"}
    settings |= {"precision": "float32", "seconds": 8.0}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A folder as a profile's: results, and two runs, one of them of a sweep."""
    seeds = [2, 3, 4]
    monkeypatch.setattr(publish, "ENOUGH_SEEDS", len(seeds))
    tables = [rows("melt-all", seeds, 0.6), rows("melt-all+xyz", seeds, 0.9)]
    tables += [rows("salt-all", seeds, 0.9), rows("xyz", [0], 0.2, 0.0)]
    ahead = rows("geoclip", [0], 0.2, 0.0)
    cell = (ahead["tier"] == "open") & (ahead["task"] == "biome") & (ahead["split"] == "block")
    ahead.loc[cell & (ahead["probe"] == "knn"), "value"] += 0.6
    folder = tmp_path / "results"
    folder.mkdir()
    pd.concat([*tables, ahead]).to_parquet(folder / "runs.parquet")
    history("melt-all", seeds).to_parquet(folder / "histories.parquet")
    # Of a sweep; the pilot's seeds of a run of the book are there too, and count for nothing.
    swept = [rows("rate-tenth", [2, 3], 0.5), rows("melt-all", [100, 101], 0.99)]
    pd.concat(swept).to_parquet(folder / "sweeps.parquet")
    histories = [history("rate-tenth", [2, 3]), history("melt-all", [100, 101])]
    pd.concat(histories).to_parquet(folder / "sweeps_histories.parquet")
    failing = [errors("melt-all", 2), errors("rate-tenth", 2)]
    pd.concat(failing).to_parquet(folder / "continents.parquet")
    save_run(tmp_path / "melt-all-2", ["imagery", "relief"], "melt")
    save_run(tmp_path / "rate-tenth-2", ["toponyms"], "clip")
    return tmp_path


def card_of(folder: Path, run: str) -> str:
    return cards.describe("mine", folder / run, folder / "results")[1]


def tables_of(text: str, first: str = "") -> dict[str, list[list[str]]]:
    """The tables of a card by the heading above them, headers and rules left out.

    Where there are two under one heading, `first` is what the header of one begins with.
    """
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n\n"):
        if part.startswith("#"):
            heading = part.lstrip("# ")
        elif part.startswith(f"| {first}"):
            lines = [[c.strip() for c in line[2:-2].split(" | ")] for line in part.splitlines()]
            found[heading] = lines[2:]
    return found


def expect_scores(text: str, scored: pd.DataFrame, run: str, seed: int) -> int:
    """Compare the tables of scores with the rows; how many cells of single scores there were."""
    own = scored[(scored["encoder"] == run) & scored["probe"].isin(["ridge", "knn"])]
    here = own[(own["seed"] == seed) & (own["labels"] == "all")]
    header = next(line for line in text.splitlines() if line.startswith("| task | embedded"))
    columns = re.findall(r"(\w+), (\w+) folds", header)
    assert columns == list(product(["embedded", "open"], ["random", "block"]))
    lines = {line[0]: line[1:] for line in tables_of(text, "task | embedded")["Scores"]}
    assert set(lines) == set(here["task"].str.replace("_", " "))
    compared = 0
    for (task, cells), (i, (tier, split)) in product(lines.items(), enumerate(columns)):
        cell = here[(here["tier"] == tier) & (here["split"] == split)]
        cell = cell[cell["task"] == task.replace(" ", "_")]
        if cell.empty:
            assert cells[i] == ""
            continue
        points = cell[cell["metric"].isin(["r2", "accuracy"])].set_index("probe")["value"]
        best = points.idxmax()
        ends = cell[cell["probe"] == best].set_index("metric")["value"]
        low, high = (ends[ends.index.str.endswith(end)].item() for end in ("_low", "_high"))
        assert cells[i] == f"{points[best]:.3f} ({low:.3f} to {high:.3f}) {best}"
        compared += 1
    points = own[own["metric"].isin(["r2", "accuracy"])]
    counts = [name for name in ("50", "200", "1000", "all") if name in set(points["labels"])]
    means = tables_of(text, "tier")["Scores"]
    for (title, *shown), tier in zip(means, ["embedded", "open"], strict=True):
        of_tier = points[points["tier"] == tier]
        seeds = of_tier["seed"].nunique()
        assert title == f"{tier}, {seeds} seeds"
        for labels, mean in zip(counts, shown, strict=True):
            value = of_tier[of_tier["labels"] == labels].groupby("seed")["value"].mean()
            expected = f"{value.mean():.3f}"
            if seeds > 2:
                low, high = stats.t.interval(0.95, seeds - 1, value.mean(), stats.sem(value))
                expected += f" ({low:.3f} to {high:.3f})"
            assert mean == expected
    return compared


def test_every_score_is_of_the_rows(made):
    scored = pd.read_parquet(made / "results" / "runs.parquet")
    assert expect_scores(card_of(made, "melt-all-2"), scored, "melt-all", 2) == 8


def test_two_seeds_of_a_sweep_have_means_without_an_interval(made):
    text = card_of(made, "rate-tenth-2")
    scored = pd.read_parquet(made / "results" / "sweeps.parquet")
    assert expect_scores(text, scored, "rate-tenth", 2) == 8
    assert re.search(r"^\| open, 2 seeds \| 0\.\d{3} \| 0\.\d{3} \|$", text, re.M)


def test_the_pilots_seeds_count_for_nothing(made):
    line = r"embedded, 3 seeds \| 0\.3\d\d \(.*\) \| 0\.6\d\d \("
    assert re.search(line, card_of(made, "melt-all-2")), "near the level of the rows"


def test_the_recipe_is_of_the_settings_the_history_and_the_files(made):
    recipe = dict(tables_of(card_of(made, "melt-all-2"))["Recipe"])
    assert recipe["training"].startswith(
        "nt_xent; 1,280 pairs in 20 steps of 64, 2 epochs; 2,000 samples"
    )
    assert recipe["cost"] == "3.00 TFLOP, 8 s in float32 on cpu"
    assert recipe["run"] == (
        "melt-all, seed 2, profile tiny: locties 0.1.0+abc, torch 2.13.0, Python 3.11.7, "
        "data dddddddddddd"
    )
    weights = (made / "melt-all-2" / "encoder" / "model.safetensors").read_bytes()
    config = json.loads((made / "melt-all-2" / "encoder" / "config.json").read_text())
    assert recipe["weights"] == f"16, in {len(weights):,} bytes of sha256 `{config['sha256']}`"


def test_where_it_fails_counts_what_was_not_trained(made):
    lines = tables_of(card_of(made, "melt-all-2"), "baseline")["Where it fails"]
    assert lines == [["geoclip", "none", "1 of 8: biome 1"]], (
        "salt-all is ahead everywhere but was trained, and so is its own with xyz appended"
    )
    table = pd.read_parquet(made / "results" / "runs.parquet")
    table[table["encoder"] != "geoclip"].to_parquet(made / "results" / "runs.parquet")
    assert "do raw coordinates" in card_of(made, "melt-all-2")


def test_where_it_fails_names_the_continent_with_the_largest_error(made):
    assert tables_of(card_of(made, "melt-all-2"), "task")["Where it fails"] == [
        ["elevation, m", "Asia", "410 (369 to 492)", "300 (270 to 360)"],
        [
            "country, error rate",
            "Europe",
            "0.5 (0.45 to 0.6)",
            "0.25 (0.225 to 0.3)",
        ],
    ]


def test_errors_by_continent_are_of_this_encoder_and_no_other(made):
    table = pd.read_parquet(made / "results" / "continents.parquet")
    table[table["encoder"] != "melt-all"].to_parquet(made / "results" / "continents.parquet")
    said = r"no errors by continent of run 'melt-all' with seed 2 in .*make publish"
    with pytest.raises(ValueError, match=said):
        card_of(made, "melt-all-2")
    (made / "results" / "continents.parquet").unlink()
    with pytest.raises(ValueError, match=said):
        card_of(made, "melt-all-2")


@pytest.mark.slow
@pytest.mark.data
def test_errors_by_continent_are_measured_out_of_fold(made, monkeypatch):
    """Against the mean absolute errors of `predict`, by continents looked up anew."""
    monkeypatch.setattr(cards, "POINTS", 1000)
    table = cards.by_continent(made / "melt-all-2")
    assert set(table["task"]) == set(TIERS["embedded"])
    assert (table[["encoder", "seed"]] == ["melt-all", 2]).all(axis=None)
    encoder, task = locties.load(made / "melt-all-2" / "encoder"), elevation(points=1000)
    off = {p: np.abs(predict(encoder, task, "block", p) - task.target) for p in ("ridge", "knn")}
    squares = {probe: np.mean(errors**2) for probe, errors in off.items()}
    best = min(squares, key=squares.get)
    own = table[table["task"] == "elevation"].set_index("group")
    assert set(own["probe"]) == {best}
    assert set(own["metric"]) == {"mae"}
    where = continents(task.lonlat)
    for group in ("Africa", "Asia", "North America"):
        assert own.loc[group, "value"] == pytest.approx(off[best][where == group].mean())
        assert own.loc[group, "points"] == (where == group).sum()
        assert own.loc[group, "low"] < own.loc[group, "value"] < own.loc[group, "high"]
    assert own.loc["all land", "value"] == pytest.approx(off[best].mean())
    assert set(table.loc[table["task"] == "country", "metric"]) == {"error_rate"}


def test_the_length_is_the_embeddings_not_the_outputs(made):
    def describe(readout: str) -> tuple[str, dict[str, str]]:
        encoder = locties.LocationEncoder(
            "xyz", "mlp", 4, network_options={"hidden": 8}, readout=readout
        )
        encoder.save(made / "melt-all-2" / "encoder")
        text = card_of(made, "melt-all-2")
        return text, dict(tables_of(text)["Recipe"])

    text, recipe = describe("layers")
    assert "in, 20 numbers out" in text
    assert "# (1, 20)" in text
    assert recipe["readout"].startswith("layers: ")
    text, recipe = describe("output")
    assert "in, 4 numbers out" in text
    assert "readout" not in recipe


def test_leakage_is_of_its_own_modalities(made):
    text = card_of(made, "melt-all-2")
    leak = "elevation (relief) leaks; air temperature, population, "
    assert f"Embedded tier: {leak}climate zone and country do not." in text
    assert (
        "Open tier: elevation (relief) and plant richness (relief) leak; air temperature, " in text
    )
    text = card_of(made, "rate-tenth-2")
    assert "tier: population (toponyms) and country (toponyms) leak; air temperature, " in text
    assert "Open tier: no task leaks." in text


@pytest.mark.parametrize("run", ["melt-all-2", "rate-tenth-2"])
def test_licences_and_citations_are_the_manifests(made, run):
    text = card_of(made, run)
    settings = json.loads((made / run / "settings.json").read_text())
    names = {name for modality in settings["modalities"] for name in cards.SOURCES[modality]}
    lines = tables_of(text)["Data"]
    assert {name for line in lines for name in line[0].split(", ")} == names
    for group, where, licence, terms, citation in lines:
        for name in group.split(", "):
            source = manifest.source(name)
            assert (where, licence, terms) == (source.where, source.licence, source.terms)
            assert source.citation in citation


def test_a_run_without_rows_is_refused(made):
    (made / "melt-all-2").rename(made / "melt-al-2")
    with pytest.raises(ValueError, match=r"no results of run 'melt-al' with seed 2.*make results"):
        card_of(made, "melt-al-2")


def test_an_encoder_of_no_run_has_no_card(tmp_path):
    locties.LocationEncoder("xyz", "linear", dim=4).save(tmp_path / "own")
    with pytest.raises(ValueError, match="names no run of the study"):
        cards.card(tmp_path / "own")


# ---------------------------------------------------------------------------------- publishing


@pytest.fixture
def _given_errors(monkeypatch):
    """Errors by continent that need no evaluation."""
    monkeypatch.setattr(cards, "by_continent", lambda run: errors(Path(run).name[:-2], 2))


@pytest.mark.slow
@pytest.mark.usefixtures("_given_errors")
def test_publishing_fills_the_package_and_leaves_nothing_else(made, tmp_path):
    (made / "results" / "continents.parquet").unlink()
    root = tmp_path / "root"
    shipped, static = root / "src" / "locties" / "published", root / "book" / "_static"
    static.mkdir(parents=True)
    locties.LocationEncoder("xyz", "linear", dim=4).save(shipped / "gone")
    named = {"melt": made / "melt-all-2", "best": made / "rate-tenth-2"}
    publish.publish(made / "results", named, root)
    assert {path.name for path in shipped.iterdir()} == {"melt", "best"}
    assert (static / "embedding.png").stat().st_size > 1000
    for name, run in named.items():
        trained, loaded = locties.load(run / "encoder"), locties.load(shipped / name)
        place = [[13.4, 52.5]]
        assert (loaded(place) == trained(place)).all()
        assert loaded.origin["run"] == run.name.rpartition("-")[0]
        text = read_card(shipped / name)
        assert text == cards.card(shipped / name, root / "results"), "the same from what is tracked"
        assert text.startswith(f"# {name}\n")
    assert len(pd.read_parquet(root / "results" / "sweeps.parquet"))
    measured = pd.read_parquet(root / "results" / "continents.parquet")
    assert set(measured["encoder"]) == {"melt-all", "rate-tenth"}
    kept = results.design(root / "results")
    assert kept == results.design(made / "results"), "the study goes with its rows"


@pytest.mark.usefixtures("_given_errors")
def test_publishing_a_run_without_rows_changes_nothing(made, tmp_path):
    (made / "rate-tenth-2").rename(made / "rate-third-2")
    named = {"melt": made / "melt-all-2", "best": made / "rate-third-2"}
    with pytest.raises(ValueError, match="no results of run 'rate-third'"):
        publish.publish(made / "results", named, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_rows_of_code_that_was_not_committed_are_not_published(made, tmp_path):
    rows = pd.read_parquet(made / "results" / "runs.parquet").assign(code="0.1.0+abc-dirty")
    rows.to_parquet(made / "results" / "runs.parquet")
    with pytest.raises(ValueError, match=r"runs.parquet has \d+ rows of 0.1.0\+abc-dirty: commit"):
        publish.publish(made / "results", {"melt": made / "melt-all-2"}, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_too_few_seeds_are_not_published(made, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "ENOUGH_SEEDS", 5)
    with pytest.raises(ValueError, match=r"3 seeds of melt-all in .*rests on 5: .*PROFILE=study"):
        publish.publish(made / "results", {"melt": made / "melt-all-2"}, tmp_path / "root")
    assert not (tmp_path / "root").exists()


# ------------------------------------------------------------------------------------ what ships


READ_ONCE = functools.cache(cards.read_tables)


@pytest.mark.parametrize("name", published())
def test_a_card_that_ships_is_what_the_published_rows_say(name, monkeypatch):
    monkeypatch.setattr(cards, "read_tables", READ_ONCE)
    folder = PUBLISHED / name
    text = read_card(name)
    config = read_config(name)
    assert config["origin"]["run"] == STUDY["published"][name]
    tables = [REPOSITORY / "results" / f"{table}.parquet" for table in ("runs", "sweeps")]
    published = pd.concat([pd.read_parquet(path) for path in tables if path.exists()])
    published = published[published["seed"] < 100]
    if set(published["data"]) == {manifest.manifest_hash()}:  # else its data are no longer known
        assert text == cards.card(folder), "run `make publish`"
    origin = config["origin"]
    assert expect_scores(text, published, origin["run"], origin["seed"]) == 20


@pytest.mark.slow
def test_the_table_of_what_ships(monkeypatch):
    monkeypatch.setattr(cards, "read_tables", READ_ONCE)
    table = cards.shipped().set_index("name")
    assert list(table.index) == published()
    runs = pd.read_parquet(REPOSITORY / "results" / "runs.parquet")
    own = runs[(runs["encoder"] == "melt-all") & (runs["tier"] == "open")]
    own = own[own["metric"].isin(["r2", "accuracy"]) & own["probe"].isin(["ridge", "knn"])]
    mean = own.loc[own["labels"] == "all", "value"].mean()
    assert table.loc["melt", "open"] == pytest.approx(mean)
    assert table.loc["melt", "dim"] == locties.load("melt")([[13.4, 52.5]]).shape[1]
