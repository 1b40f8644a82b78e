"""What tests and docstring examples share: a small open tier, and a place for examples to run."""

from pathlib import Path

import pytest
from _pytest.doctest import DoctestItem
from synthetic import write_open_tier

from locties.data import manifest


@pytest.fixture(scope="session")
def open_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of a small synthetic open tier, with its manifest beside it."""
    return write_open_tier(tmp_path_factory.mktemp("open") / "mirror")


@pytest.fixture
def open_tier(open_mirror: Path, monkeypatch: pytest.MonkeyPatch):
    """The synthetic open tier in place of the real one, answered by its mirror."""
    from locties.data import public

    sources = manifest.parse((open_mirror.parent / "manifest.yaml").read_text())
    monkeypatch.setattr(manifest, "_read", lambda: sources)
    monkeypatch.setenv("LOCTIES_MIRROR", str(open_mirror))
    kept = (public._countries, public.night_lights)
    for read in kept:
        read.cache_clear()
    yield open_mirror
    for read in kept:
        read.cache_clear()


@pytest.fixture(autouse=True)
def _example(request: pytest.FixtureRequest):
    """Each docstring example has an empty folder, the same random numbers, and the open tier."""
    if not isinstance(request.node, DoctestItem):
        yield
        return
    import torch
    from matplotlib import pyplot as plt

    request.getfixturevalue("open_tier")
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.chdir(request.getfixturevalue("tmp_path"))
    plt.switch_backend("agg")
    torch.manual_seed(0)
    yield
    plt.close("all")
