"""The files around the code: they agree with each other, and what they tell one to do works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import locties
from locties._util.lock import only_process
from locties.data import manifest

ROOT = Path(__file__).parents[1]


def test_every_source_is_listed_with_its_licence_and_citation():
    text = (ROOT / "LICENSES-DATA.md").read_text("utf-8")
    listed = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert list(listed) == [source.name for source in manifest.sources()]
    for source in manifest.sources():
        section = " ".join(listed[source.name].split())
        for term in (source.licence, source.terms, source.citation, source.where):
            assert " ".join(term.split()) in section, source.name


def test_what_ships_stays_below_25_megabytes():
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "src/locties", "book", "results"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    sizes = [(ROOT / name).stat().st_size for name in names if name]
    assert len(sizes) > 100
    assert sum(sizes) < 25e6


def test_make_runs_one_pipeline_at_a_time(tmp_path):
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "_build").mkdir()
    # Neither the environment nor the plan is made first.
    call = ["make", "results", "--old-file=.venv/.installed", "--old-file=plan"]
    call.append(f"BIN={Path(sys.executable).parent}")
    made = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "MAKEFLAGS": ""}
    with only_process(tmp_path / "_build"):
        done = subprocess.run(
            call, cwd=tmp_path, env=os.environ | made, capture_output=True, text=True
        )
    assert done.returncode != 0
    assert f"in use by process {os.getpid()} on" in done.stderr


# ---------------------------------------------------------------------------------- the recipes

RECIPES = re.findall(
    r"^### (.+?)\n.*?^```python\n(.*?)^```",
    (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
    re.M | re.S,
)


def check_recipe(name, made):
    """What a recipe has added does what its kind does."""
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
        assert 3 < modality.samples.mean() < 5, "the log of tens of mm"
    else:
        task = made(points=100)
        assert task.kind == "regression"
        assert 10 < task.target.mean() < 300


@pytest.mark.data
@pytest.mark.parametrize(("name", "code"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_adds_one_entry_that_works(name, code, registries):
    before = [set(registry) for registry in registries]
    exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "recipe"})
    (added,) = (
        registry[key]
        for registry, old in zip(registries, before, strict=True)
        for key in registry.keys() - old
    )
    check_recipe(name, added)
