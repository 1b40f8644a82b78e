"""What several test files share."""

import os

# Several test processes share the machine's cores; one thread each is faster for all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch
from synthetic import write_open_tier
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from locties.data import embedded, manifest, public
from locties.evaluation import OPEN_TASKS

torch.set_num_threads(1)


class _Sizes(TorchDispatchMode):
    """Within it, `bytes` gathers the sizes in memory of what operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.bytes.add(leaf.untyped_storage().nbytes())
        return result


@pytest.fixture
def tensor_sizes() -> type[_Sizes]:
    return _Sizes


@pytest.fixture(scope="session")
def earth() -> embedded.Earth:
    """The embedded tier from the normal cache, which is built if it is not there yet."""
    return embedded.load()


@pytest.fixture(scope="session")
def open_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of a small synthetic open tier, with its manifest beside it."""
    return write_open_tier(tmp_path_factory.mktemp("open") / "mirror")


@pytest.fixture
def open_tier(open_mirror: Path, monkeypatch: pytest.MonkeyPatch):
    """The synthetic open tier in place of the real one, answered by its mirror."""
    sources = manifest.parse((open_mirror.parent / "manifest.yaml").read_text())
    monkeypatch.setattr(manifest, "_read", lambda: sources)
    monkeypatch.setenv("LOCTIES_MIRROR", str(open_mirror))
    kept = (*OPEN_TASKS.values(), public._countries, public.night_lights)
    for read in kept:
        read.cache_clear()
    yield open_mirror
    for read in kept:
        read.cache_clear()
