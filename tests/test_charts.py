"""Charts: what they draw is what the rows say."""

import itertools

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")

from locties import charts


@pytest.fixture
def runs():
    rows = []
    for encoder, seed, split, task in itertools.product(
        ("melt", "xyz"), (0, 1, 2), ("random", "block"), ("elevation", "country")
    ):
        metric = "r2" if task == "elevation" else "accuracy"
        value = 0.5 + 0.1 * seed + (0.1 if encoder == "melt" else 0)
        for labels, name, shift in [
            ("all", metric, 0),
            ("all", f"{metric}_low", -0.05),
            ("all", f"{metric}_high", 0.05),
            ("50", metric, -0.2),
            ("200", metric, -0.1),
        ]:
            row = {"encoder": encoder, "seed": seed, "split": split, "task": task, "probe": "knn"}
            rows.append(row | {"labels": labels, "metric": name, "value": value + shift})
    return pd.DataFrame(rows)


@pytest.fixture
def histories():
    rows = itertools.product(("melt-all", "clip-haze"), (0, 1), ("haze", "relief"), (1, 2))
    table = pd.DataFrame(rows, columns=["encoder", "seed", "modality", "epoch"])
    return table.assign(
        pairs=table["epoch"] * 1000, validation_loss=5.0 / table["epoch"], recall_at_10=0.1
    )


def test_scores_have_a_dot_a_seed_and_an_axis_for_each_cell(runs):
    figure = charts.draw_scores(runs, trained=["melt"])
    assert len(figure.axes) == 4, "two splits by two tasks"
    first = figure.axes[0]
    dots = sorted(float(line.get_xdata()[0]) for line in first.lines if line.get_marker() == "o")
    assert dots == pytest.approx([0.5, 0.6, 0.6, 0.7, 0.7, 0.8])
    assert [label.get_text() for label in first.get_yticklabels()] == ["xyz", "melt"]
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["R²", "accuracy"]


def test_few_labels_are_means_over_seeds_against_their_number(runs):
    figure = charts.draw_few_labels(runs, ["melt", "xyz"])
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [50, 200]
    assert list(line.get_ydata()) == pytest.approx([0.5, 0.6])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["melt", "xyz"]


def test_histories_draw_a_line_a_seed_and_name_each_run_once(histories):
    figure = charts.draw_histories(histories, ["melt-all"])
    assert len(figure.axes[0].lines) == 4, "melt-all and clip-haze, two seeds each"
    assert len(figure.axes[1].lines) == 2, "there is no clip-relief"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["melt-all", "clip"]


def test_a_history_draws_each_modality_twice(histories):
    run = histories.query("encoder == 'melt-all' and seed == 0")
    figure = charts.draw_history(run)
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]
    assert all("pairs" in ax.get_xlabel() for ax in figure.axes)
