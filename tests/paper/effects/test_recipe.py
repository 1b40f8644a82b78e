"""What a part of the recipe is worth: differences that can be worked out by hand."""

import pandas as pd
import pytest

from locties_paper.effects.recipe import ceiling, recipe


def rows(name: str, budget: float, level: float) -> list[dict]:
    """Scores at three seeds: two open tasks without leaks, one with, and an embedded one."""
    tasks = {"biome": 0.0, "country": 0.2, "elevation": -5.0}
    made = []
    for seed, off in ((100, -0.01), (101, 0.0), (102, 0.01)):
        for tier, of_tier in (("open", tasks), ("embedded", {"elevation": 0.4})):
            for task, more in of_tier.items():
                row = {"encoder": name, "budget": budget, "read": "output", "seed": seed}
                row |= {"tier": tier, "task": task, "metric": "accuracy"}
                own = off if name == "recipe" else 2 * off
                made.append({**row, "value": level + more + own})
    return made


def test_a_change_is_compared_seed_by_seed_on_tasks_without_leaks():
    table = recipe(pd.DataFrame(rows("recipe", 2.0, 0.5) + rows("recipe-siren", 2.0, 0.4)))
    assert list(table["change"]) == ["recipe", "siren"]
    siren = table.iloc[1]
    assert siren["score"] == pytest.approx(0.4 + (0.0 + 0.2 + 0.4) / 3)
    assert siren["value"] == pytest.approx(-0.1)
    # The difference varies over seeds by -.01, 0 and .01: t is 4.303 with two degrees of freedom.
    assert siren["high"] - siren["value"] == pytest.approx(4.303 * 0.01 / 3**0.5, abs=1e-4)
    assert siren["low_tasks"] == pytest.approx(siren["high_tasks"])  # every task loses the same
    assert (siren["seeds"], siren["tasks"]) == (3, 3)


def test_another_budget_of_the_recipe_is_a_change_too():
    table = recipe(pd.DataFrame(rows("recipe", 2.0, 0.5) + rows("recipe", 8.0, 0.6)))
    longer = table[table["budget"] == 8.0].iloc[0]
    assert longer["value"] == pytest.approx(0.1)


def test_the_ceiling_takes_contrast_at_its_best_and_the_best_single():
    levels = {
        ("recipe", 2.0): 0.6,
        ("recipe-harmonics_10", 2.0): 0.55,
        ("recipe-contrast", 2.0): 0.3,
        ("recipe-contrast", 0.25): 0.5,
        ("recipe-unpaired", 2.0): 0.58,
        ("recipe-unpaired_contrast", 0.25): 0.56,
    }
    grid = "nt_xent-hash_grid-residual"
    singles = {f"{grid}-haze": 0.52, f"{grid}-rain": 0.5}
    alike = {grid: 0.54, "nt_xent-harmonics_10-residual": 0.53, **singles}

    def table(of: dict) -> pd.DataFrame:
        made = [row for (name, budget), level in of.items() for row in rows(name, budget, level)]
        return pd.concat(
            pd.DataFrame(made).assign(read=read) for read in ("output", "output+harmonics_10")
        )

    pilot = {(name, budget): level for name, level in alike.items() for budget in (1 / 16, 1.0)}
    found = ceiling(table(levels), table(pilot))
    expected = [0.05, 0.01, -0.1, -0.02, 0.02]
    assert found["value"].tolist() == pytest.approx(expected)
    assert found.loc["five", "change"] == "haze"
