"""The networks: shapes, gradients, and SIREN's initialisation as published."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from locties.networks import NETWORKS, layers, split


def build(name: str, in_dim: int, dim: int, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](in_dim, dim, **options)


def weights_of(network: nn.Module) -> list[torch.Tensor]:
    return [m.weight.detach() for m in network.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_maps_features_to_embeddings(name, n):
    output = build(name, 5, 3)(torch.randn(n, 5))
    assert output.shape == (n, 3)
    assert output.dtype == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_weight_and_the_input(name):
    network, features = build(name, 5, 3), torch.randn(16, 5, requires_grad=True)
    network(features).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
    assert features.grad is not None
    assert features.grad.abs().max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_one_row_does_not_depend_on_the_others(name):
    network, features = build(name, 5, 3).eval(), torch.randn(6, 5)
    assert torch.allclose(network(features)[2:3], network(features[2:3]), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_a_smooth_function(name):
    torch.manual_seed(0)
    x = torch.rand(256, 2) * 2 - 1
    target = (2 * x[:, :1] - x[:, 1:]) if name == "linear" else torch.sin(3 * x[:, :1]) * x[:, 1:]
    options = {} if name == "linear" else {"hidden": 32}
    network = build(name, 2, 1, **options)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1 if name == "linear" else 3e-3)
    for _ in range(250):
        optimiser.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02 * target.var().item()


def test_linear_is_affine():
    network = build("linear", 4, 2)
    a, b = torch.randn(2, 4)
    middle = network((a + b) / 2)
    assert torch.allclose(middle, (network(a) + network(b)) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mlp", lambda i, h, n, d: (i + 1) * h + (n - 1) * (h + 1) * h + (h + 1) * d),
        ("siren", lambda i, h, n, d: (i + 1) * h + (n - 1) * (h + 1) * h + (h + 1) * d),
        (
            "residual",
            lambda i, h, n, d: (i + 1) * h + n * (2 * (h + 1) * h + 2 * h) + 2 * h + (h + 1) * d,
        ),
    ],
)
def test_width_and_depth_are_what_was_asked_for(name, count):
    network = build(name, 7, 5, hidden=11, layers=3)
    assert sum(p.numel() for p in network.parameters()) == count(7, 11, 3, 5)


def test_mlp_takes_gelu_or_relu():
    kinds = [{type(m) for m in build("mlp", 3, 2, activation=a)} for a in ("gelu", "relu")]
    assert kinds == [{nn.Linear, nn.GELU}, {nn.Linear, nn.ReLU}]
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        build("mlp", 3, 2, activation="glu")


def test_residual_blocks_leave_the_identity_path_clear():
    network = build("residual", 6, 4, hidden=8, layers=5)
    for parameter_name, parameter in network.named_parameters():
        if "branch" in parameter_name:
            nn.init.zeros_(parameter)
    x = torch.randn(3, 6)
    ends = network[-1](network[-2](network[0](x)))
    assert torch.equal(network(x), ends)


def test_siren_computes_the_published_formula():
    network = build("siren", 4, 2, hidden=6, layers=2, w0_first=30.0, w0=2.0)
    first, second, output = (m for m in network.modules() if isinstance(m, nn.Linear))
    x = torch.randn(5, 4)
    h = torch.sin(30.0 * (x @ first.weight.T + first.bias))
    h = torch.sin(2.0 * (h @ second.weight.T + second.bias))
    assert torch.allclose(network(x), h @ output.weight.T + output.bias, atol=1e-5)


@pytest.mark.parametrize("w0", [1.0, 30.0])
def test_siren_weights_are_uniform_within_the_published_bounds(w0):
    weights = weights_of(build("siren", 100, 256, hidden=512, layers=3, w0=w0))
    later = math.sqrt(6 / 512) / w0
    for weight, bound in zip(weights, [1 / 100, later, later, later], strict=True):
        assert weight.abs().max() <= bound
        uniform = stats.uniform(-bound, 2 * bound)
        assert stats.kstest(weight.flatten().numpy(), uniform.cdf).pvalue > 1e-3


def test_siren_activations_keep_their_spread_through_the_layers():
    """Sitzmann et al., theorem 1.8: arcsine-distributed inputs give normal pre-activations."""
    network = build("siren", 64, 8, hidden=512, layers=4, w0_first=30.0, w0=30.0)
    h = torch.rand(2000, 64) * 2 - 1
    for layer in list(network)[:-1]:
        h = layer(h).detach()
        assert h.std().item() == pytest.approx(math.sqrt(0.5), rel=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": 0}),
        ("mlp", {"layers": -1}),
        ("residual", {"hidden": 2.5}),
        ("residual", {"layers": "4"}),
        ("siren", {"layers": 0}),
        ("siren", {"w0_first": 0.0}),
        ("siren", {"w0": -1.0}),
    ],
)
def test_impossible_options_are_refused_with_a_remedy(name, options):
    with pytest.raises(ValueError, match="pass "):
        build(name, 3, 2, **options)


def test_dimensions_must_be_whole_numbers():
    for name in NETWORKS:
        with pytest.raises(ValueError, match="dim is 0; pass a whole number"):
            build(name, 3, 0)


def test_layers_of_a_siren_are_its_sines_and_its_output():
    network, x = build("siren", 5, 3, hidden=8, layers=3), torch.randn(4, 5)
    found = layers(network, x)
    assert [h.shape for h in found] == [(4, 8)] * 3 + [(4, 3)]
    assert all(h.abs().max() <= 1 for h in found[:3])
    assert found[0].equal(network[0](x))
    assert found[-1].equal(network(x))


def test_a_layer_counts_with_its_activation():
    network, x = build("mlp", 5, 3, hidden=8, activation="relu"), torch.randn(4, 5)
    hidden, *_, output = layers(network, x)
    assert hidden.min() == 0
    assert len(layers(network, x)) == 3
    assert output.equal(network(x))


def test_a_network_of_unknown_layers_is_one():
    network, x = build("linear", 2, 3), torch.randn(4, 2)
    (only,) = layers(network, x)
    assert only.equal(network(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_follows_the_affine_map_has_the_layers_of_the_network(name):
    network, x = build(name, 5, 3), torch.randn(4, 5)
    weight, bias, rest = split(network)
    parts = zip(layers(rest, x @ weight.T + bias), layers(network, x), strict=True)
    for ours, theirs in parts:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
