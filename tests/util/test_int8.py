"""Weights as int8: the error of each number, and states that do not fit."""

import pytest
import torch

from locties._util import int8


def a_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(5, 100, generator=generator) * torch.logspace(-6, 3, 5)[:, None]
    return {"wide": wide, "zero": torch.zeros(3, 4), "bias": torch.randn(7, generator=generator)}


def test_each_number_is_off_by_half_a_step_of_its_block():
    state = a_state()
    packed = int8.pack(state, ["wide", "zero"])
    assert packed["wide"].dtype == packed["zero"].dtype == torch.int8
    assert packed["wide:scale"].shape == (8,), "500 numbers in blocks of 64"
    found = int8.unpack(packed)
    assert found.keys() == state.keys()
    assert torch.equal(found["bias"], state["bias"])
    assert torch.equal(found["zero"], state["zero"])
    for before, after in zip(
        state["wide"].flatten().split(64), found["wide"].flatten().split(64), strict=True
    ):
        assert (after - before).abs().max() <= before.abs().max() / 127 / 2 * (1 + 1e-5)
        assert (after - before).abs().max() > 0


def test_packing_again_changes_nothing():
    once = int8.unpack(int8.pack(a_state(), ["wide"]))
    torch.testing.assert_close(int8.unpack(int8.pack(once, ["wide"])), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"wide:scale": torch.ones(7)},
        {"wide:scale": torch.ones(8, 1)},
        {"wide:scale": torch.ones(8).double()},
        {"wide": torch.ones(5, 100)},
        {"other:scale": torch.ones(1)},
    ],
)
def test_scales_that_do_not_fit_are_refused(change):
    packed = int8.pack(a_state(), ["wide"])
    with pytest.raises(ValueError, match=r":scale' does not fit"):
        int8.unpack(packed | change)
