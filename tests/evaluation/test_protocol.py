from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, r2_score

from locties import LocationEncoder
from locties.evaluation import (
    BASELINES,
    MONTHLY_TASKS,
    TASKS,
    Task,
    evaluate,
    fit_probe,
    predict,
    probes,
    protocol,
)
from locties.evaluation.protocol import COLUMNS, _draw_labels, checked_embedding
from locties.evaluation.splits import folds

xyz = BASELINES["xyz"]()


@pytest.fixture(scope="module")
def globe():
    rng = np.random.default_rng(0)
    latitude = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 1500)))
    return torch.tensor(np.stack([rng.uniform(-180, 180, 1500), latitude], 1)).float()


@pytest.fixture(scope="module")
def height(globe):
    z = xyz(globe)[:, 2].numpy()
    return Task("height", globe, z + 0.2 * np.random.default_rng(1).normal(size=len(z)))


@pytest.fixture(scope="module")
def belt(globe):
    band = np.digitize(globe[:, 1].numpy(), [-30, 30])
    return Task("belt", globe, band, kind="classification", classes=("S", "tropics", "N"))


def _value(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, f"{len(table)} rows for {where}"
    return table["value"].item()


def test_the_table_is_tidy_complete_and_survives_parquet(height, belt, tmp_path):
    table = evaluate(xyz, [height, belt], name="mine", seed=3, labels=["all", 50])
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(COLUMNS[:-1]).any()
    assert table["value"].notna().all()
    # 2 splits x 2 counts x (2 probes x (3 or 4 metrics) + 1 distance)
    assert len(table) == 2 * 2 * (2 * 3 + 1) + 2 * 2 * (2 * 4 + 1)
    assert set(table["labels"]) == {"all", "50"}
    assert set(table["seed"]) == {3}
    assert set(table["encoder"]) == {"mine"}
    table.to_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "runs.parquet"), table)


@pytest.mark.parametrize("split", ["random", "block"])
@pytest.mark.parametrize("probe", ["ridge", "knn"])
def test_scores_are_those_of_the_pooled_predictions(height, belt, split, probe):
    table = evaluate(xyz, [height, belt], splits=split, probes=probe, labels="all")
    regressed = predict(xyz, height, split, probe)
    assert _value(table, metric="r2") == pytest.approx(r2_score(height.target, regressed))
    classified = predict(xyz, belt, split, probe)
    assert classified.dtype == np.int64
    assert _value(table, metric="accuracy") == accuracy_score(belt.target, classified)
    macro = f1_score(belt.target, classified, average="macro")
    assert _value(table, metric="macro_f1") == pytest.approx(macro)
    for metric in ("r2", "accuracy"):
        ends = [_value(table, metric=f"{metric}_{end}") for end in ("low", "high")]
        assert ends[0] < _value(table, metric=metric) < ends[1]


def test_a_linear_target_is_found_and_a_random_one_is_not(globe):
    rng = np.random.default_rng(2)
    linear = Task("linear", globe, xyz(globe).numpy() @ [1.0, 2.0, 3.0])
    random = Task("random", globe, rng.normal(size=len(globe)))
    table = evaluate(xyz, [linear, random], labels="all")
    found = table[(table.metric == "r2") & (table.task == "linear") & (table.probe == "ridge")]
    assert (found["value"] > 0.9999).all()
    assert (table[(table.metric == "r2") & (table.task == "random")]["value"] < 0.02).all()


def test_more_labels_are_nearer_and_better(globe):
    smooth = Task("smooth", globe, torch.sin(3 * xyz(globe)).sum(1))
    table = evaluate(xyz, smooth, splits="random")
    for metric, probe, better in (("r2", "knn", 1), ("nearest_label_km", "none", -1)):
        values = [
            _value(table, metric=metric, probe=probe, labels=labels)
            for labels in ("50", "200", "1000", "all")
        ]
        assert (np.diff(values) * better > 0).all(), f"{metric}: {values}"


def test_two_encoders_get_the_same_labels(height, monkeypatch):
    """The same rows are drawn, whatever the encoder, its name and its seed."""
    seen: list[list[np.ndarray]] = []

    def spy(probe, embedding, tasks, fold, draws):
        seen.append(draws)
        return [task.target for task in tasks]

    monkeypatch.setattr(protocol, "_out_of_fold", spy)
    evaluate(xyz, height, splits="block", probes="knn", labels=200, seed=0)
    evaluate(BASELINES["constant"](), height, splits="block", probes="knn", labels=200, seed=7)
    assert all((a == b).all() for a, b in zip(*seen, strict=True))


def test_draws_leave_the_test_fold_out_and_small_ones_lie_in_large_ones(globe):
    fold = folds(globe, "block")
    small, large = _draw_labels(fold, 50), _draw_labels(fold, 200)
    for held_out in range(5):
        assert len(set(small[held_out])) == 50
        assert held_out not in fold[large[held_out]]
        assert set(small[held_out]) < set(large[held_out])


def test_another_draw_has_other_folds_and_labels_and_the_same_one_repeats(height):
    def scores(draw):
        table = evaluate(xyz, height, splits="random", probes="knn", labels=50, draw=draw)
        assert set(table["draw"]) == {draw}
        return table["value"].tolist()

    assert scores(0) == scores(0)
    assert scores(0) != scores(1)
    folded = folds(height.lonlat, "random", seed=1)
    assert (folded != folds(height.lonlat, "random", seed=0)).mean() > 0.5


def test_predictions_do_not_see_their_own_fold(globe):
    """Spoiling the targets of one fold leaves its own predictions as they were."""
    target = xyz(globe)[:, 2].double().numpy()
    fold = folds(globe, "block")
    spoilt = np.where(fold == 1, 50.0, target)
    for probe in ("ridge", "knn"):
        clean, other = (
            predict(xyz, Task("z", globe, each), "block", probe)[fold == 1]
            for each in (target, spoilt)
        )
        assert clean == pytest.approx(other, abs=1e-6), probe


def test_tasks_on_the_same_points_are_embedded_once(height, belt):
    calls = []
    evaluate(lambda x: calls.append(len(x)) or xyz(x), [height, belt], labels="all")
    assert calls == [1500]
    alone = evaluate(xyz, belt, labels="all")
    together = evaluate(xyz, [height, belt], labels="all")
    together = together[together.task == "belt"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, together)


@pytest.mark.parametrize("probe", ["ridge", "knn"])
def test_fit_probe_predicts_anywhere(globe, belt, probe):
    north = fit_probe(xyz, Task("z", globe, xyz(globe)[:, 2]), probe=probe)
    assert north([[0, 90], [45, 0], [0, -90]]) == pytest.approx([1, 0, -1], abs=0.05)
    zone = fit_probe(xyz, belt, probe=probe)([[0, 80], [100, -80]])
    assert [belt.classes[code] for code in zone] == ["N", "S"]


def test_counts_a_small_task_cannot_give_are_left_out_by_default(globe):
    small = Task("small", globe[:300], globe[:300, 1])
    assert set(evaluate(xyz, small, probes="knn")["labels"]) == {"all", "50", "200"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": []}, r"labels=\[\].*'all'"),
        ({"labels": "5"}, r"labels=5.*whole numbers from 10"),
        ({"labels": "-50"}, r"labels='-50'.*whole numbers from 10"),
        ({"labels": "many"}, r"labels='many'.*'all'"),
        ({"labels": 0}, r"labels=0.*whole numbers from 10"),
        ({"labels": 5}, r"labels=5.*whole numbers from 10"),
        ({"labels": 50.0}, r"labels=50\.0.*'all'"),
        ({"labels": [50.5]}, r"labels=50\.5.*'all'"),
        ({"labels": [50, 2000]}, r"labels=2000.*from 10 to 1\d\d\d"),
        ({"splits": []}, r"splits=\[\].*random, block"),
        ({"splits": 5}, "splits=5.*random, block|split 5.*block"),
        ({"splits": "blocks"}, "did you mean 'block'"),
        ({"splits": "random,block"}, "split 'random,block'.*Known"),
        ({"probes": []}, r"probes=\[\].*ridge"),
        ({"probes": ()}, r"probes=\(\).*ridge"),
        ({"probes": "rigde"}, "did you mean 'ridge'"),
        ({"probes": [["ridge"]]}, r"probe \['ridge'\].*ridge"),
        ({"probes": probes.Ridge}, "probes=.*Ridge.*ridge"),
        ({"tasks": []}, r"tasks=\[\].*elevation.*Task objects"),
        ({"tasks": 5}, "5 is not a task.*elevation"),
        ({"tasks": ["elevation", None]}, "None is not a task.*elevation"),
        ({"tasks": "elevatoin"}, "did you mean 'elevation'"),
        ({"tasks": "elevation,population"}, "'elevation,population'.*Known"),
        ({"encoder": "bset"}, "did you mean 'best'"),
        ({"encoder": "melt+xzy"}, "did you mean 'xyz'"),
        ({"encoder": 5}, "'melt'"),
    ],
)
def test_wrong_arguments_are_named_before_any_probe_is_fitted(height, monkeypatch, wrong, message):
    monkeypatch.setattr(protocol, "_out_of_fold", None)
    monkeypatch.setitem(TASKS, "elevation", lambda: height)
    with pytest.raises(ValueError, match=message):
        evaluate(**({"encoder": xyz, "tasks": height} | wrong))


@pytest.mark.parametrize("few", [50, np.int64(50), [50], np.array([50]), (50,), "50", ["50"]])
def test_numbers_of_labels_may_be_of_any_whole_type(height, few):
    table = evaluate(xyz, height, splits="random", probes="knn", labels=few)
    assert set(table["labels"]) == {"50"}


def test_encoders_are_taken_by_name_by_folder_and_as_objects(height, tmp_path):
    encoder = LocationEncoder("xyz", "linear", dim=4)
    encoder.save(tmp_path / "mine")
    options = {"splits": "random", "probes": "knn", "labels": 50}
    tables = {
        what: evaluate(given, height, **options)
        for what, given in {
            "mine": tmp_path / "mine",
            "folder": str(tmp_path / "mine"),
            "object": encoder,
            "xyz": "xyz",
            "function": xyz,
            "best": "best",
        }.items()
    }
    assert set(tables["mine"]["encoder"]) == set(tables["folder"]["encoder"]) == {"mine"}
    assert set(tables["best"]["encoder"]) == {"best"}
    named = evaluate(encoder, height, **options, name="other")
    assert set(named["encoder"]) == {"other"}
    for one, same in (("mine", "folder"), ("mine", "object"), ("xyz", "function")):
        assert tables[one]["value"].equals(tables[same]["value"])
    both = evaluate(f"{tmp_path / 'mine'}+xyz", height, **options)
    assert set(both["encoder"]) == {"mine+xyz"}
    north = fit_probe("xyz", height, probe="ridge")
    assert north([[0, 90], [0, -90]]) == pytest.approx([1, -1], abs=0.1)
    assert (predict("xyz", height) == predict(xyz, height)).all()


def test_embeddings_are_checked(globe, height):
    with pytest.raises(ValueError, match=r"shape \(1500,\) for 1500 points"):
        evaluate(lambda x: x[:, 0], height)
    with pytest.raises(ValueError, match=r"not finite for 1 of 1500 points, the first at row 7"):
        evaluate(lambda x: xyz(x).index_fill(0, torch.tensor([7]), torch.nan), height)


def test_a_module_is_used_in_evaluation_mode_without_gradients_and_left_as_it_was(globe):
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(0.5)).train()
    assert (checked_embedding(module, globe) == checked_embedding(module, globe)).all(), (
        "dropout was on"
    )
    assert module.training
    assert module[0].weight.grad is None


@pytest.mark.data
def test_xyz_with_knn_keeps_its_known_scores(earth):
    """A strong spatial prior, of which every encoder must give more.

    Measured with this protocol on several draws of points; elevation is that of airports.
    """
    known = {
        ("air_temperature", "random"): 0.987,
        ("air_temperature", "block"): 0.94,
        ("elevation", "random"): 0.66,
        ("elevation", "block"): 0.40,
        ("population", "random"): 0.68,
        ("population", "block"): 0.47,
        ("climate_zone", "random"): 0.82,
        ("climate_zone", "block"): 0.625,
    }
    tasks = sorted({task for task, _ in known})
    table = evaluate(xyz, tasks, probes="knn", labels="all")
    table = table[table.metric.isin(["r2", "accuracy"])].set_index(["task", "split"])["value"]
    for cell, expected in known.items():
        assert table[cell] == pytest.approx(expected, abs=0.04), cell


# --------------------------------------------------------------------- regional and few labels


def few(n, degrees=0.1, kind="regression"):
    rng = np.random.default_rng(n)
    lonlat = rng.uniform([5.7, 50.9], [5.7 + degrees, 50.9 + degrees], (n, 2))
    if kind == "classification":
        return Task("kind", lonlat, np.where(np.arange(n) % 2, "a", "b"), kind)
    return Task("zinc", lonlat, rng.normal(400, 30, n).round(1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize(("n", "degrees"), [(60, 0.1), (12, 1e-4), (5, 1), (300, 3)])
def test_labels_of_a_region_are_scored_under_both_splits(n, degrees, kind):
    table = evaluate(xyz, few(n, degrees, kind))
    assert set(table["split"]) == {"random", "block"}
    scores = table[table["metric"].isin(["r2", "accuracy", "macro_f1", "nearest_label_km"])]
    assert np.isfinite(scores["value"]).all()


@pytest.mark.parametrize("n", [5, 30])
def test_labels_at_fewer_than_five_places_are_scored_under_random_folds(n):
    few_places = Task("zinc", np.resize(few(3).lonlat.numpy(), (n, 2)), np.arange(n))
    with pytest.warns(UserWarning, match="3 places.*random folds alone"):
        table = evaluate(xyz, few_places, labels="all")
    assert set(table["split"]) == {"random"}
    with pytest.raises(ValueError, match=r"5 places.*there are 3: add"):
        evaluate(xyz, few_places, splits="block")


@pytest.mark.parametrize("splits", ["random", "block", ("random", "block")])
@pytest.mark.filterwarnings("ignore:the labels are at 3 places")
def test_fewer_labels_than_folds_cannot_be_scored(splits):
    with pytest.raises(ValueError, match=r"5 p.*there are 3: add"):
        evaluate(xyz, few(3), splits=splits)


@pytest.mark.parametrize("probe", ["ridge", "knn", "mlp"])
@pytest.mark.parametrize("n", [2, 3, 60])
@pytest.mark.parametrize("split", ["random", "block"])
def test_a_probe_is_fitted_to_any_number_of_labels(probe, n, split):
    task = few(n)
    predicted = fit_probe(xyz, task, split, probe)(task.lonlat)
    assert np.isfinite(predicted).all()


def test_numbers_of_labels_that_do_not_exist_are_not_proposed():
    with pytest.raises(ValueError, match=r"labels=10.*pass 'all';"):
        evaluate(xyz, few(8), labels=10)


@pytest.fixture(scope="module")
def seasons(globe):
    month = torch.arange(len(globe)) % 12 + 1
    year = torch.cos((month - 7) / 12 * 2 * np.pi)
    return Task("seasons", globe, globe[:, 1] / 90 * year, month=month)


def season(lonlat, month):
    """What the task `seasons` asks, and the place."""
    year = torch.cos((month - 7) / 12 * 2 * np.pi)
    return torch.stack([lonlat[:, 1] / 90 * year, lonlat[:, 0]], 1)


season.time = "month"


def test_an_encoder_with_a_month_gets_that_of_each_target(seasons):
    options = {"splits": "block", "probes": "ridge", "labels": "all"}
    assert _value(evaluate(season, seasons, **options), metric="r2") > 0.999
    blind = _value(evaluate("harmonics_10+month", seasons, **options), metric="r2")
    assert blind < 0.2, "place and month side by side have no seasons"
    assert np.corrcoef(predict(season, seasons), seasons.target)[0, 1] > 0.999
    north = fit_probe(season, seasons)
    assert north([[0.0, 45.0], [0.0, 45.0]], [7, 1]) == pytest.approx([0.5, -0.5], abs=0.01)


def test_months_of_task_and_encoder_must_agree(seasons, height):
    with pytest.raises(ValueError, match=r"'seasons' has months .* 'melt\+month'"):
        evaluate("melt", seasons)
    with pytest.raises(ValueError, match=r"'height' has none: .*in_month\(7\), or .*monthly_temp"):
        evaluate(season, height)
    encoder = LocationEncoder("xyz", "mlp", dim=4, time="month")
    assert len(evaluate(encoder.in_month(7), height, labels="all", probes="ridge"))


@pytest.mark.data
def test_an_encoder_with_a_month_has_tasks_of_its_own(monkeypatch):
    few = {name: partial(make, points=200) for name, make in MONTHLY_TASKS.items()}
    for name, make in few.items():
        monkeypatch.setitem(MONTHLY_TASKS, name, make)
    table = evaluate("month", probes="ridge", labels="all")
    assert set(table["task"]) == set(MONTHLY_TASKS)
