"""The files around the code: they agree with each other, and what they tell one to do works."""

import re
from pathlib import Path

import pytest
import torch

import locties
from locties.data import manifest
from locties.evaluation import TASKS
from locties.features import FEATURES
from locties.modalities import MODALITIES
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------ the data's terms


@pytest.mark.parametrize("source", manifest.sources(), ids=lambda source: source.name)
def test_every_source_s_terms_are_named(source):
    text = read("LICENSES-DATA.md")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    named = " ".join(sections[source.name].split())
    for what, expected in (
        ("Licence", source.licence),
        ("Terms", source.terms),
        ("Cite", source.citation),
        ("From", source.where),
    ):
        assert f"**{what}:** {' '.join(expected.split())}" in named


def test_no_source_is_named_that_is_not_there():
    named = re.findall(r"^### (\w+)$", read("LICENSES-DATA.md"), re.M)
    assert named == [source.name for source in manifest.sources()]


# ---------------------------------------------------------------------------------- the recipes

RECIPES = re.findall(r"^### (.+?)\n.*?^```python\n(.*?)^```", read("CONTRIBUTING.md"), re.M | re.S)


def built(name: str, made: object) -> None:
    """That what a recipe added is one of its kind."""
    encoder = {"dim": 4, "feature_options": {}, "network_options": {}}
    lonlat = [[13.4, 52.5], [-60.0, -3.1]]
    if name == "A positional feature":
        assert locties.LocationEncoder("latitude", "linear", **encoder)(lonlat).shape == (2, 4)
    elif name == "A network":
        assert locties.LocationEncoder("xyz", "wide", **encoder)(lonlat).shape == (2, 4)
    elif name == "An objective":
        z, ids = torch.eye(4), torch.arange(4)
        batch = locties.objectives.Batch(z, z + 1, torch.zeros_like(ids), ids)
        assert made()(batch).item() == 1
    elif name == "A modality":
        modality = made(samples=20, validation=10)
        assert modality.samples.shape == (20, 12)
        assert modality.validation.samples.shape == (10, 12)
        assert modality.encoder(8)(modality.samples).shape == (20, 8)
        assert 0.7 < modality.samples.mean() < 1.1, "hundreds of kelvin"
    else:
        task = made(points=100)
        assert task.kind == "regression"
        assert 10 < task.target.mean() < 300


def test_there_are_five_recipes():
    names = ["A modality", "A positional feature", "A network", "An objective", "A task"]
    assert [name for name, _ in RECIPES] == names


@pytest.mark.data
@pytest.mark.parametrize(("name", "code"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_runs_and_is_known(name, code):
    registries = (FEATURES, NETWORKS, OBJECTIVES, MODALITIES, TASKS)
    before = [dict(registry) for registry in registries]
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "recipe"})
        added = [
            made
            for registry, old in zip(registries, before, strict=True)
            for key, made in registry.items()
            if key not in old
        ]
        assert len(added) == 1, "one assignment into one registry"
        built(name, added[0])
    finally:
        for registry, old in zip(registries, before, strict=True):
            registry.clear()
            registry.update(old)


def test_the_files_that_contributing_names_are_there():
    for name in re.findall(
        r"`((?:examples|tests|src|book)/[\w./]+|[A-Z][\w-]+\.(?:md|cff))`", read("CONTRIBUTING.md")
    ):
        assert (ROOT / name).exists(), name
