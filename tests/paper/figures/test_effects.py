"""Figures of the study: what is drawn is what the rows say."""

import pandas as pd
import pytest

from locties_paper import design
from locties_paper.figures.effects import draw_budgets, draw_by_task, draw_effects


def test_effects_are_drawn_with_both_intervals():
    rows = pd.DataFrame(
        {
            "contrast": ["a minus b", "c minus b"],
            "level": "all",
            "value": [0.1, -0.02],
            "low": [0.08, -0.03],
            "high": [0.12, -0.01],
            "low_tasks": [-0.1, -0.2],
            "high_tasks": [0.3, 0.1],
        }
    )
    (ax,) = draw_effects(rows).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a minus b", "c minus b"]
    tasks, replicates = ([tuple(part[:, 0]) for part in c.get_segments()] for c in ax.collections)
    assert tasks == [(-0.1, 0.3), (-0.2, 0.1)]
    assert replicates == [(0.08, 0.12), (-0.03, -0.01)]
    assert ax.lines[-1].get_xdata().tolist() == [0.1, -0.02]


def test_budgets_are_drawn_in_pairs_and_lines_differ():
    rows = pd.DataFrame(
        [
            {"encoder": name, "budget": budget, "probe": probe, "metric": "r2", "value": budget / 4}
            for name, budgets in (("melt", (0.25, 1.0)), ("salt", (0.25,)), ("untrained", (0.0,)))
            for budget in budgets
            for probe in ("knn", "ridge")
        ]
    )
    axes = draw_budgets(rows, {"melt": "MELT", "salt": "SALT", "untrained": "none"}).axes
    assert [ax.get_title() for ax in axes] == ["both probes", "knn", "ridge"]
    melt, salt, none = axes[0].lines
    assert melt.get_xdata() == pytest.approx([design.PAIRS / 4000, design.PAIRS / 1000])
    assert melt.get_ydata() == pytest.approx([0.0625, 0.25])
    assert melt.get_color() != salt.get_color()
    assert none.get_linestyle() == ":"


def test_gains_by_task_have_a_panel_for_each_split_and_a_row_for_each_task():
    gains = pd.DataFrame(
        [
            (split, task, other, value, value - 0.01, value + 0.01)
            for split, off in (("block", 0.0), ("random", 0.1))
            for task, value in (("tree_species", 0.2 + off), ("biome", -0.1 + off))
            for other in ("geoclip", "raw")
        ],
        columns=["split", "task", "other", "value", "low", "high"],
    )
    block, random = draw_by_task(gains, {"raw": "rasters", "geoclip": "GeoCLIP"}).axes
    assert [tick.get_text() for tick in block.get_yticklabels()] == ["tree species", "biome"]
    assert [line.get_label() for line in block.lines[1:]] == ["rasters", "GeoCLIP"]
    assert block.lines[1].get_xdata() == pytest.approx([0.2, -0.1])
    assert random.lines[1].get_xdata() == pytest.approx([0.3, 0.0])
    first = [tuple(part[:, 0]) for part in random.collections[0].get_segments()]
    assert first[0] == pytest.approx((0.29, 0.31))
