"""The chunked NT-Xent against its formula, `nt_xent_formula`."""

from contextlib import nullcontext

import pytest
import torch
from pairs import a_batch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from locties.objectives import (
    DIRECTIONS,
    INITIAL_LOG_SCALE,
    LARGEST_LOG_SCALE,
    NEGATIVES,
    Batch,
    _ntxent,
    nt_xent_formula,
)
from locties.objectives._ntxent import lean_nt_xent


def results(function, batch: Batch, log_scale: float, *options: str) -> list[Tensor]:
    """The loss and its three gradients."""
    z, e = (x.detach().clone().requires_grad_() for x in batch[:2])
    scale = torch.tensor(log_scale, dtype=torch.float64, requires_grad=True)
    loss = function(batch._replace(samples=z, locations=e), scale, *options)
    (3 * loss).backward()
    return [loss.detach(), z.grad, e.grad, scale.grad]


@pytest.fixture
def chunks_of(monkeypatch):
    """A function that sets how many rows of 50 logits make a chunk."""

    def set_(rows: int, pairs: int = 50) -> None:
        monkeypatch.setattr(_ntxent, "CHUNK", rows * pairs)
        monkeypatch.setattr(_ntxent, "CHUNK_ROWS", 1)

    return set_


@pytest.mark.parametrize("rows", [50, 9, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("same_places", [True, False])
def test_loss_and_gradients_are_those_of_the_formula(
    rows, direction, negatives, same_places, chunks_of
):
    chunks_of(rows)
    batch = a_batch(3, pairs=50)
    if not same_places:
        batch = batch._replace(place=torch.arange(50))
    found = results(lean_nt_xent, batch, 2.5, direction, negatives)
    expected = results(nt_xent_formula, batch, 2.5, direction, negatives)
    for ours, exact in zip(found, expected, strict=True):
        assert (ours - exact).abs().max() <= 1e-12 * exact.abs().max()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_in_float32_they_agree_to_its_rounding(direction, negatives):
    """The batch is the smallest that is computed in chunks; the scale is the largest allowed."""
    generator = torch.Generator().manual_seed(0)
    locations, noise = torch.randn(2, 2048, 32, generator=generator)
    ids = torch.arange(2048)
    batch = Batch(locations + 0.6 * noise, locations, ids % 3, ids // 2)
    options = LARGEST_LOG_SCALE, direction, negatives
    found, expected = (results(f, batch, *options) for f in (lean_nt_xent, nt_xent_formula))
    for ours, plain, bound in zip(found, expected, (1e-5, 1e-5, 1e-5, 2e-3), strict=True):
        assert (ours - plain).abs().max() <= bound * plain.abs().max()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_candidates_opposite_to_their_anchors_do_not_underflow(direction):
    """In float32, exp(-100) is zero."""
    z = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [1.0, -1e-3]])
    ids = torch.arange(3)
    single = Batch(z, -z.flip(0), ids, ids)
    double = Batch(z.double(), -z.flip(0).double(), ids, ids)
    found, exact = (
        results(lean_nt_xent, batch, LARGEST_LOG_SCALE, direction, "joint")
        for batch in (single, double)
    )
    for ours, expected in zip(found, exact, strict=True):
        assert torch.allclose(ours.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_second_gradient_is_refused_with_the_way_out(direction):
    """Not only where gradients are asked for twice: a penalty would be ignored without a word."""
    batch = a_batch(pairs=6)
    batch.samples.requires_grad_()
    for log_scale in (torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)):
        loss = lean_nt_xent(batch, log_scale, direction, "joint")
        with pytest.raises(NotImplementedError, match=r"create_graph=True.*nt_xent_formula"):
            torch.autograd.grad(loss, batch.samples, create_graph=True)
        with pytest.raises(NotImplementedError, match="6 pairs"):
            torch.autograd.grad(loss.square(), batch.samples, create_graph=True)
    loss = nt_xent_formula(batch, torch.tensor(1.0), direction)
    (gradient,) = torch.autograd.grad(loss, batch.samples, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), batch.samples)
    assert second.abs().max() > 0


@pytest.mark.parametrize(("direction", "products"), [*zip(DIRECTIONS, (3, 3, 4), strict=True)])
def test_its_flops_are_counted(direction, products):
    batch = a_batch(pairs=12)
    batch.samples.requires_grad_(), batch.locations.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        lean_nt_xent(batch, torch.tensor(1.0), direction, "joint").backward()
    assert counter.get_total_flops() == products * 2 * 12 * 12 * 5


def test_where_no_gradient_is_wanted_none_is_computed():
    batch = a_batch(pairs=12)
    batch.samples.requires_grad_()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        lean_nt_xent(batch, torch.tensor(1.0), "modality_to_location", "joint")
    assert counter.get_total_flops() == 2 * 12 * 12 * 5


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", [nt_xent_formula, lean_nt_xent])
def test_the_scale_may_be_on_another_device(function, direction, monkeypatch):
    """As in validation; "meta" stands for a GPU, and has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    batch = Batch(*(x.to("meta") for x in a_batch(pairs=12)[:4]))
    batch.samples.requires_grad_()
    function(batch, torch.tensor(1.0), direction, "joint").backward()
    assert batch.samples.grad.device.type == "meta"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_operation_makes_a_matrix_of_all_pairs(direction, tensor_sizes):
    """All logits of 2,048 pairs would be 17 MB; benchmarks/loss_memory.py measures a process."""
    pairs, chunk = 2048, 4 * _ntxent.CHUNK
    z, e = torch.randn(2, pairs, 16).requires_grad_()
    ids = torch.arange(pairs)
    with tensor_sizes() as tensors:
        lean_nt_xent(Batch(z, e, ids % 3, ids), torch.tensor(2.6), direction, "joint").backward()
    assert max(tensors.bytes) <= 2 * chunk < 4 * pairs**2, "two chunks are allocated together"


@pytest.mark.parametrize("log_scale", [INITIAL_LOG_SCALE, LARGEST_LOG_SCALE])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fast", [True, False])
def test_gradients_of_bfloat16_embeddings_are_rounded_once_more_and_no_worse(
    fast, direction, log_scale, chunks_of, monkeypatch
):
    """Logits in bfloat16 would put the temperature's gradient off by half."""
    monkeypatch.setattr(_ntxent, "bfloat16_is_fast", lambda: fast)
    chunks_of(20, pairs=300)
    batch = a_batch(pairs=300, dim=64)
    batch = batch._replace(samples=batch.samples.bfloat16(), locations=batch.locations.bfloat16())
    exact_batch = batch._replace(samples=batch.samples.double(), locations=batch.locations.double())
    found = results(lean_nt_xent, batch, log_scale, direction, "joint")
    exact = results(lean_nt_xent, exact_batch, log_scale, direction, "joint")
    for ours, expected, bound in zip(found, exact, (1e-5, 5e-3, 5e-3, 2e-3), strict=True):
        assert (ours.double() - expected).norm() < bound * expected.norm()


class Products(TorchDispatchMode):
    """Within it, `dtypes` gathers those of matrices that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.mm.out):
            self.dtypes.update(x.dtype for x in args[:2])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_multiplied_only_where_that_is_fast(fast, monkeypatch):
    monkeypatch.setattr(_ntxent, "bfloat16_is_fast", lambda: fast)
    batch = a_batch(pairs=12)
    z, e = (x.bfloat16().requires_grad_() for x in batch[:2])
    with Products() as products:
        halves = batch._replace(samples=z, locations=e)
        lean_nt_xent(halves, torch.tensor(1.0), "symmetric", "joint").backward()
    assert products.dtypes == ({torch.float32, torch.bfloat16} if fast else {torch.float32})
