"""The content of a sample."""

import pytest
import torch

from locties.objectives import content


def test_content_is_a_fixed_summary():
    profile, patch = torch.rand(2, 5), torch.arange(2 * 256.0).view(2, 1, 16, 16)
    assert torch.equal(content(profile), profile)
    assert content(patch)[1, 0].item() == patch[1, 0, :4, :4].mean().item()
    tokens = torch.tensor([[5, 9, 0, 0], [9, 5, 0, 0], [5, 8, 0, 0]])
    same, swapped, other = content(tokens)
    assert torch.allclose(same, swapped), "the order of tokens says nothing"
    assert (same - other).abs().max() > 0.1
    assert torch.equal(content(tokens[:, :2]), content(tokens)), "padding says nothing"
    with pytest.raises(ValueError, match=r"samples of shape \(2, 3, 4\) have no content"):
        content(torch.rand(2, 3, 4))
