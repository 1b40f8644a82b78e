"""The numbers behind the ranking: means, intervals, leaks, and what the page holds."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from locties.evaluation import TASKS
from locties_paper.effects.rows import seen
from locties_paper.figures.ranking import (
    ALL,
    CELL,
    CLEAN,
    Source,
    html,
    leaks,
    rank_contenders,
    sources,
)
from locties_paper.results import PUBLISHED_ROWS
from locties_paper.sweeps import SWEEPS

SCORED = {"split": "block", "probe": "ridge", "labels": "all", "metric": "r2"}


def table(encoders, tasks, draws=6, of_seed=2, tier="open") -> pd.DataFrame:
    """Random scores of encoders, of every task and draw; each seed has some draws of its own."""
    names = ["encoder", "task", "draw"]
    index = pd.MultiIndex.from_product([encoders, tasks, range(draws)], names=names)
    rows = index.to_frame(index=False)
    value = np.random.default_rng(0).normal(0.5, 0.1, len(index))
    return rows.assign(value=value, seed=20 + rows["draw"] // of_seed, tier=tier, **SCORED)


def at(ranking, encoder: str, task: str) -> tuple[int, int]:
    cell = ranking.cells.query("task == @task").index[0]
    return cell, ranking.contenders.index(encoder)


@pytest.mark.parametrize(("of_seed", "seeds"), [(10, 1), (2, 5), (1, 10)])
def test_the_interval_is_over_seeds_or_over_the_draws_of_one(of_seed, seeds):
    rows = table(["xyz"], ["elevation"], draws=10, of_seed=of_seed)
    ranking = rank_contenders(rows)
    place = at(ranking, "xyz", "elevation")
    means = rows.groupby("draw" if seeds == 1 else "seed")["value"].mean()
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    assert ranking.mean[place] == pytest.approx(rows["value"].mean())
    assert ranking.half[place] == pytest.approx((high - low) / 2)
    assert (ranking.seeds[place], ranking.draws[place]) == (seeds, 10)


def test_one_replicate_has_no_interval():
    ranking = rank_contenders(table(["xyz"], ["elevation"], draws=1))
    assert np.isnan(ranking.half).all()
    assert np.isfinite(ranking.mean).all()


def test_a_mean_is_of_contenders_that_have_all_tasks():
    rows = table(["xyz", "harmonics_10"], ["elevation", "biome"])
    rows = rows.query("not (encoder == 'xyz' and task == 'biome')")
    ranking = rank_contenders(rows)
    mean = rows.query("encoder == 'harmonics_10'")["value"].mean()
    assert ranking.mean[at(ranking, "harmonics_10", ALL)] == pytest.approx(mean)
    assert np.isnan(ranking.mean[at(ranking, "xyz", ALL)])
    assert np.isnan(ranking.mean[at(ranking, "xyz", "biome")])


def test_a_mean_is_of_the_tasks_that_have_so_many_labels():
    few = table(["xyz"], ["elevation", "biome"]).assign(labels="50")
    many = table(["xyz"], ["biome"]).assign(labels="1000")
    ranking = rank_contenders(pd.concat([few, many]))
    assert ranking.cells.query("task == @ALL")["labels"].tolist() == ["1000", "50"]
    assert ranking.mean[0, 0] == pytest.approx(many["value"].mean())


def test_means_without_leaks_leave_out_tasks_that_leak_into_a_contender():
    rows = table(["clip-relief", "xyz"], ["elevation", "biome", "country"])
    ranking = rank_contenders(rows)
    assert ranking.tasks["open", CLEAN] == ["biome", "country"]
    assert ranking.leaks["open", "elevation"] == ranking.leaks["open", ALL] == {0: ["relief"]}
    mean = rows.query("encoder == 'xyz' and task != 'elevation'")["value"].mean()
    assert ranking.mean[at(ranking, "xyz", CLEAN)] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("encoder", "tier", "task", "found"),
    [
        ("untrained", "embedded", "country", []),
        ("best@1+harmonics_10", "embedded", "elevation", ["relief"]),
        ("melt", "embedded", "country", ["toponyms"]),
        ("clip-rain", "embedded", "climate_zone", ["rain"]),
        ("clip-rain", "open", "air_temperature", []),
        ("xyz", "embedded", "elevation", []),
        ("clip-relief+harmonics_10", "open", "elevation", ["relief"]),
        ("geoclip", "open", "elevation", []),
    ],
)
def test_leaks_come_from_what_an_encoder_saw(encoder, tier, task, found):
    assert leaks(encoder, tier, task) == found


@pytest.mark.slow
def test_raw_reads_the_rasters():
    assert seen("raw") == {"imagery", "rain", "haze", "relief"}


def test_an_encoder_of_unknown_modalities_is_refused():
    with pytest.raises(ValueError, match=r"'mine' is in no sweep.*add it"):
        rank_contenders(table(["mine"], ["elevation"]))


def test_seeds_that_share_draws_are_refused():
    rows = table(["melt"], ["elevation"])
    with pytest.raises(ValueError, match=r"'melt'.*2 seeds that share draws.*its own"):
        rank_contenders(pd.concat([rows.assign(seed=1), rows.assign(seed=2)]))


def test_only_the_published_tables_can_be_ranked(tmp_path):
    assert list(sources(tmp_path)) == []
    baselines = "baselines on the open tasks"
    assert sources(PUBLISHED_ROWS)[baselines].tables == ["open_tasks"]


def data(page: str) -> list[dict]:
    return json.loads(re.search(r'class="ranking-data">(.*?)</script>', page, re.S)[1])


@pytest.mark.slow
def test_the_published_page_holds_the_published_scores():
    given = sources(PUBLISHED_ROWS)
    for held, source in zip(data(html(given)), given.values(), strict=True):
        rows = source.rows[source.rows["encoder"] == held["contenders"][-1]]
        checked = 0
        for cell, (who, mean, _, _) in zip(held["cells"], held["scores"], strict=True):
            chosen = dict(zip([*CELL, "metric"], cell, strict=True))
            if chosen["metric"] and (who is None or len(held["contenders"]) - 1 in who):
                same = (rows[list(chosen)] == pd.Series(chosen)).all(axis=1)
                assert mean[-1] / 1000 == pytest.approx(rows[same]["value"].mean(), abs=0.00051)
                checked += 1
        assert checked >= 4


@pytest.mark.slow
def test_a_whole_study_fits_on_a_page():
    encoders = list(SWEEPS["main"].contenders)
    encoders += [f"{name}+harmonics_10" for name in encoders]
    open_tasks = [f"task {n}" for n in range(11)]
    parts = [
        table(names, tasks, 3, 1, tier).assign(split=split, probe=probe, labels=labels)
        for tier, tasks in (("embedded", list(TASKS)), ("open", open_tasks))
        for split in ("random", "block")
        for names, probe in ((encoders, "ridge"), (encoders, "knn"), (["xyz"], "boosting"))
        for labels in ("all", "50", "200", "1000")
    ]
    page = html({"all": Source(pd.concat(parts), "", ["open_tasks"])})
    assert len(page) < 350_000
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r'src="(?!data:)|@import|fetch\(|import\(', page)
