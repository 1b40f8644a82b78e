"""What several test files share."""

import os

# Several test processes share the machine's cores; one thread each is faster for all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from locties.data import embedded

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def earth() -> embedded.Earth:
    """The embedded tier from the normal cache, which is built if it is not there yet."""
    return embedded.load()
