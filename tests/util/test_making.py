"""Tensors and random numbers that the rest of the process neither decides nor sees."""

import threading

import pytest
import torch
from torch import nn

from locties._util.making import Making

DRAWN = {
    "rand": lambda: torch.rand(4),
    "randn": lambda: torch.randn(2, 3),
    "randint": lambda: torch.randint(9, (5,)),
    "randperm": lambda: torch.randperm(7),
    "uniform_": lambda: torch.empty(4).uniform_(-2, 2),
    "normal_": lambda: torch.empty(4).normal_(),
    "bernoulli": lambda: torch.bernoulli(torch.full((8,), 0.5)),
    "exponential_": lambda: torch.empty(4).exponential_(),
    "Linear": lambda: nn.Linear(3, 2).weight,
    "Conv2d": lambda: nn.Conv2d(2, 3, 2).weight,
    "Embedding": lambda: nn.Embedding(4, 3).weight,
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2).in_proj_weight,
    "LSTM": lambda: nn.LSTM(2, 3).weight_hh_l0,
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(3, 3)),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(9)),
}
MADE = {
    "empty": lambda: torch.empty(2),
    "full": lambda: torch.full((2,), 1.5),
    "tensor": lambda: torch.tensor([1.5]),
    "arange": lambda: torch.arange(2.0),
    "linspace": lambda: torch.linspace(0, 1, 3),
    "Parameter": lambda: nn.Parameter(torch.tensor(1.5)),
    "LayerNorm": lambda: nn.LayerNorm(3).weight,
}


@pytest.fixture(params=[torch.float64, torch.float16, torch.bfloat16], ids=str)
def other_default(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("how", DRAWN)
def test_numbers_are_those_of_the_seed_and_torchs_own_state_stays(how):
    torch.manual_seed(3)
    expected = DRAWN[how]()
    torch.manual_seed(8)
    before = torch.get_rng_state()
    with Making(seed=3):
        assert torch.equal(DRAWN[how](), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", [*MADE, "rand", "Linear", "orthogonal_"])
def test_another_default_dtype_is_not_taken(how, other_default):
    make = {**DRAWN, **MADE}[how]
    with Making(seed=3):
        assert make().dtype == torch.float32
        assert torch.tensor([1, 2]).dtype == torch.int64
        assert torch.zeros(1, dtype=torch.float64).dtype == torch.float64
    assert torch.get_default_dtype() == other_default


@pytest.mark.parametrize("how", [*MADE, "randperm", "Linear", "trunc_normal_"])
def test_another_default_device_is_not_taken(how):
    with torch.device("meta"), Making(seed=3):
        assert {**DRAWN, **MADE}[how]().device.type == "cpu"


@pytest.mark.parametrize("how", DRAWN)
def test_on_meta_the_same_shapes_are_made(how):
    with Making(0, "meta"):
        made = DRAWN[how]()
    assert made.device.type == "meta"
    assert made.shape == DRAWN[how]().shape


def test_on_meta_nothing_takes_memory_and_too_many_are_refused():
    with Making(0, "meta", most=4):
        assert nn.Linear(10**6, 10**9).weight.numel() == 10**15
        nn.Linear(10**6, 10**9)
        with pytest.raises(ValueError, match="more than 4"):
            torch.rand(1, generator=torch.Generator())


def test_threads_do_not_disturb_each_other():
    torch.manual_seed(0)
    expected, found = [torch.rand(9) for _ in range(400)], []

    def make():
        for _ in range(100):
            with Making(seed=5):
                found.append(nn.Linear(40, 40).weight.sum().item())

    threads = [threading.Thread(target=make) for _ in range(4)]
    torch.manual_seed(0)
    for thread in threads:
        thread.start()
    drawn = [torch.rand(9) for _ in range(400)]
    for thread in threads:
        thread.join()
    assert torch.equal(torch.cat(drawn), torch.cat(expected))
    assert len(found) == 400
    assert len(set(found)) == 1
