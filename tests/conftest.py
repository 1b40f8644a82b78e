"""What several test files share."""

import os

# Several test processes share the machine's cores; one thread each is faster for all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from locties.data import embedded

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
