"""Charts: what they draw is what the rows say."""

import itertools

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")


from locties_paper.figures import charts


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
            row |= {"tier": "embedded"}
            rows.append(row | {"labels": labels, "metric": name, "value": value + shift})
    return pd.DataFrame(rows)


def test_scores_have_a_dot_a_seed_and_an_axis_for_each_cell(runs):
    figure = charts.draw_scores(runs, trained=["melt"])
    assert len(figure.axes) == 4, "two splits by two tasks"
    first = figure.axes[0]
    dots = sorted(float(line.get_xdata()[0]) for line in first.lines if line.get_marker() == "o")
    assert dots == pytest.approx([0.5, 0.6, 0.6, 0.7, 0.7, 0.8])
    assert [label.get_text() for label in first.get_yticklabels()] == ["xyz", "melt"]
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["R²", "accuracy"]


def test_charts_draw_one_tier(runs):
    """Where the same names stand in two tiers, the other's rows and encoders stay out."""
    other = runs.assign(tier="open", value=-5.0, encoder=runs["encoder"] + " elsewhere")
    both = pd.concat([runs, other])
    for figure in (
        charts.draw_scores(both, trained=["melt"]),
        charts.draw_split_gap(both),
        charts.draw_leakage(both, ["elevation", "country"], {}),
    ):
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert sorted(names) == ["melt", "xyz"]
    line = charts.draw_few_labels(both, ["melt"]).axes[0].lines[0]
    assert min(line.get_ydata()) > 0
    assert (charts.best_probe(both)["value"] > 0).all()
    assert (charts.best_probe(both, tier="open")["value"] == -5).all()


def test_the_gap_is_between_the_better_probes_of_both_splits(runs):
    worse = runs.assign(probe="ridge", value=runs["value"] - 0.3)
    lower = runs["split"] == "block"
    runs = pd.concat([runs.assign(value=runs["value"] - 0.25 * lower), worse])
    figure = charts.draw_split_gap(runs)
    assert [ax.get_title() for ax in figure.axes] == ["elevation", "country"]
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["xyz", "melt"]
    random, block = (dots.get_offsets()[:, 0].tolist() for dots in ax.collections[1:])
    assert random == pytest.approx([0.6, 0.7])
    assert block == pytest.approx([0.35, 0.45])


def test_the_heat_map_writes_its_values_and_frames_leaks(runs):
    runs = runs.assign(value=runs["value"] - 0.1 * (runs["split"] == "block"))
    figure = charts.draw_leakage(runs, ["elevation", "country"], {"country": ("xyz",)})
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["0.70", "0.70", "0.60", "0.60"]
    assert [text.get_text() for text in right.texts] == ["0.60", "0.60", "0.50", "0.50"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["melt", "xyz"]
    assert [frame.get_xy() for frame in left.patches] == [pytest.approx((0.53, 0.55))]


def test_retrieval_has_a_bar_for_each_radius_beside_chance():
    rows = [
        {"modality": name, "metric": f"within_{km}_km", "value": value, "seed": seed}
        for name, shift in (("haze", 0.0), ("relief", 0.1))
        for km, value in ((25, 0.1 + shift), (200, 0.2 + shift))
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    table["value"] += 0.02 * table["seed"]
    table = table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05, chance=0.03)
    unrelated = table.assign(metric="median_km", value=900.0)
    figure = charts.draw_retrieval(pd.concat([table, unrelated]))
    assert [ax.get_title() for ax in figure.axes] == ["haze", "relief"]
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == pytest.approx([0.21, 0.31, 0.03, 0.03])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["25", "200"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["run", "chance"]


@pytest.fixture
def errors():
    rows = [
        {"encoder": encoder, "task": task, "unit": unit, "grouping": grouping, "group": group}
        | {"metric": metric, "value": value, "low": value - 0.1, "high": value + 0.2}
        for i, encoder in enumerate(("melt", "xyz"))
        for task, unit, measured in (("elevation", "m", "mae"), ("country", "", "error_rate"))
        for grouping, groups in (("continent", ("Africa", "Asia")), ("climate", ("arid", "cold")))
        for j, group in enumerate(groups)
        for metric, value in ((measured, 0.5 + i + 0.1 * j), ("r2" if unit else "skill", -9.0))
    ]
    return pd.DataFrame(rows)


def test_groups_have_a_dot_and_a_line_for_each_encoder(errors):
    figure = charts.draw_groups(errors)
    assert len(figure.axes) == 4, "two groupings by two tasks"
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["Asia", "Africa"]
    dots = [line for line in first.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [
        pytest.approx([0.5, 0.6]),
        pytest.approx([1.5, 1.6]),
    ], "errors alone, no R²"
    for line, interval in zip(dots, first.collections, strict=True):
        africa, asia = line.get_ydata()
        assert africa == pytest.approx(1, abs=0.4)
        assert asia == pytest.approx(0, abs=0.4)
        for x, y, (left, right) in zip(*line.get_data(), interval.get_segments(), strict=True):
            assert (left[0], right[0]) == pytest.approx((x - 0.1, x + 0.2))
            assert left[1] == pytest.approx(y)
    below = [ax.get_xlabel() for ax in figure.axes[2:]]
    assert below == ["mean absolute error\n(m)", "error rate"]
    assert first.get_xlim()[0] == 0
    assert first.get_xlim()[1] > 1.8, "the longest line fits"


def test_errors_by_month_have_a_line_for_each_encoder():
    table = pd.DataFrame(
        {"encoder": name, "task": "warmth", "unit": "degC", "month": month, "value": month + add}
        for name, add in (("with month", 0), ("without", 5))
        for month in range(1, 13)
    )
    (ax,) = charts.draw_by_month(table).axes
    assert ax.get_ylabel() == "mean absolute error (degC)"
    assert "".join(label.get_text() for label in ax.get_xticklabels()) == "JFMAMJJASOND"
    assert [list(line.get_ydata())[:2] for line in ax.lines] == [[1, 2], [6, 7]]


def test_autocorrelation_lies_between_chance_and_the_target():
    table = pd.DataFrame(
        [
            {"task": "elevation", "encoder": name, "moran": moran, "low": -0.02, "high": 0.03}
            for name, moran in (("target", 0.9), ("melt", 0.3), ("xyz", 0.6))
        ]
    )
    (ax,) = charts.draw_autocorrelation(table).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["xyz", "melt"]
    target, dots = ax.lines
    assert set(target.get_xdata()) == {0.9}
    assert list(dots.get_xdata()) == [0.6, 0.3]
    band = ax.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.02, 0.05))


def test_diagnostics_are_drawn_in_one_colour_an_encoder():
    found = {
        "melt": {"effective_rank": 120.0, "alignment": 3e-3, "uniformity": -3.6},
        "xyz": {"effective_rank": 3.0, "alignment": 3e-5, "uniformity": -1.6},
    }
    dimensions = {"melt": {50: 3.0, 500: 2.1}, "xyz": {50: 1.9, 500: 2.0}}
    left, middle, right = charts.draw_diagnostics(found, dimensions).axes
    assert [bar.get_width() for bar in left.patches] == [3, 120]
    assert [label.get_text() for label in left.get_yticklabels()] == ["xyz", "melt"]
    lines = {line.get_label(): line for line in middle.lines}
    assert list(lines["melt"].get_xdata()) == [50, 500]
    assert list(lines["melt"].get_ydata()) == [3, 2.1]
    assert [label.get_text() for label in middle.get_xticklabels()] == ["50", "500"]
    assert [(*d.get_xdata(), *d.get_ydata()) for d in right.lines] == [(3e-3, -3.6), (3e-5, -1.6)]
    colours = [line.get_color() for line in right.lines]
    assert colours == [lines["melt"].get_color(), lines["xyz"].get_color()]
    assert colours[0] != colours[1]


def benchmark_rows(case: str, size: int, contender: str, seconds: float) -> dict:
    spread = {"fastest": 0.9 * seconds, "slowest": 1.2 * seconds, "floor": 0.01}
    return {"case": case, "size": size, "contender": contender, "seconds": seconds, **spread}


def test_contenders_stand_side_by_side_from_slowest_to_fastest():
    rows = [benchmark_rows("grid", 100, name, s) for name, s in (("locties", 1), ("SatCLIP", 30))]
    rows.append(benchmark_rows("step", 2048, "locties", 2))
    upper, lower = charts.draw_side_by_side(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in upper.get_yticklabels()] == ["SatCLIP", "locties"]
    dots = [line.get_xdata()[0] for line in upper.lines if line.get_marker() == "o"]
    assert dots == [30, 1]
    (floors,) = (line for line in upper.lines if line.get_marker() == "|")
    assert list(floors.get_xdata()) == [0.01, 0.01]
    assert upper.get_title() == "grid, 100 points"
    assert lower.get_title() == "step, 2,048 pairs"


def test_growth_is_drawn_beside_its_floor():
    rows = [benchmark_rows("step by batch", size, "locties", size / 1000) for size in (20, 10)]
    (ax,) = charts.draw_growth(pd.DataFrame(rows)).axes
    measured, floor = ax.lines
    assert list(measured.get_ydata()) == [10, 20]
    assert list(floor.get_ydata()) == [10, 10]
    assert ax.get_xlabel() == "batch"
