"""Times of the parts, for pytest-benchmark: ``pytest benchmarks/``. They gate nothing."""

import pytest
import torch
from parts import encoder, places, training_step

from locties.features import FEATURES
from locties.grid import stream_grid
from locties.harmonics import harmonics_as
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES, Batch

torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("degree", "points"), [(10, 2048), (40, 2048), (40, 20_000), (100, 2048)])
def test_harmonics(benchmark, degree, points, dtype):
    values = benchmark(harmonics_as, places(points), degree, dtype)
    assert values.isfinite().all()


@pytest.mark.parametrize("name", FEATURES)
def test_features(benchmark, name):
    values = benchmark(FEATURES[name](), places(2048))
    assert values.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_network(benchmark, name):
    with torch.no_grad():
        values = benchmark(NETWORKS[name](1600, 256), torch.randn(2048, 1600))
    assert values.shape == (2048, 256)


@torch.no_grad()
def test_encoder(benchmark):
    assert benchmark(encoder(), places(2048)).shape == (2048, 256)


@pytest.mark.parametrize("name", ["nt_xent", "siglip", "vicreg"])
def test_objective(benchmark, name):
    z, e = (torch.randn(2048, 256, requires_grad=True) for _ in range(2))
    batch = Batch(z, e, torch.zeros(2048, dtype=torch.int64), torch.arange(2048))
    objective = OBJECTIVES[name]()

    def forward_and_backward():
        loss = objective(batch)
        loss.backward()
        return loss

    assert benchmark(forward_and_backward).isfinite()


@pytest.mark.parametrize("modalities", [1, 3])
def test_training_step(benchmark, modalities):
    benchmark.pedantic(training_step(modalities), rounds=3, warmup_rounds=1)


def test_grid(benchmark):
    """At one degree: 64,800 points."""
    blocks = benchmark.pedantic(
        lambda: list(stream_grid(encoder(hidden=256), 1)), rounds=3, warmup_rounds=1
    )
    assert sum(len(block.lat) for block in blocks) == 180
