"""Time the parts with pytest-benchmark: ``pytest benchmarks/``. No time fails a test."""

from itertools import count

import pytest
import torch
from parts import PROFILE, encoder, patches, places, profiles, training_step

from locties import export_grid
from locties.apply.grid import stream_grid
from locties.features import FEATURES
from locties.harmonics import harmonics_as
from locties.modality import PATCH, Modality, profile_encoder
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES, Batch, nt_xent

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


def test_gather(benchmark):
    """A batch of patches from a resident raster."""
    samples, index = patches(20_000), torch.randperm(20_000)[:2048]
    assert benchmark(samples.__getitem__, index).shape == (2048, 3, PATCH, PATCH)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(benchmark, name):
    z, e = (torch.randn(2048, 256, requires_grad=True) for _ in range(2))
    raw = profiles(2048)
    batch = Batch(z, e, torch.zeros(2048, dtype=torch.int64), torch.arange(2048), {0: raw})
    objective = OBJECTIVES[name]()
    modality = Modality("profiles", places(2048), raw, profile_encoder(PROFILE))
    objective.prepare({"profiles": modality}, 256)

    def forward_and_backward():
        loss = objective(batch)
        loss.backward()
        return loss

    assert benchmark(forward_and_backward).isfinite()


@pytest.mark.parametrize("noise", [10.0, 0.5])
def test_loss_at_the_largest_scale(benchmark, noise):
    """The loss of a poor encoder and of a good one, whose negatives have the smallest weights."""
    locations, other = torch.randn(2, 2048, 256)
    samples = (locations + noise * other).requires_grad_()
    ids = torch.arange(2048)
    batch, scale = Batch(samples, locations, ids, ids), torch.tensor(100.0).log()
    benchmark(lambda: nt_xent(batch, scale).backward())


@pytest.mark.parametrize("modalities", [1, 3])
def test_training_step(benchmark, modalities):
    benchmark.pedantic(training_step(modalities), rounds=3, warmup_rounds=1)


def test_grid(benchmark):
    """At one degree: 64,800 points."""
    network = encoder(hidden=256)
    blocks = benchmark.pedantic(lambda: list(stream_grid(network, 1)), rounds=3, warmup_rounds=1)
    assert sum(len(block.lat) for block in blocks) == 180


def test_grid_export(benchmark, tmp_path):
    """At two degrees: 16,200 points, to a new Zarr store each time."""
    pytest.importorskip("zarr")
    network, number = encoder(hidden=256), count()

    def export():
        return export_grid(network, tmp_path / f"{next(number)}.zarr", 2, progress=False)

    assert (benchmark.pedantic(export, rounds=3, warmup_rounds=1) / "zarr.json").exists()
