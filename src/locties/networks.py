"""Networks: positional features to embeddings, by name.

A network is a ``Module(in_dim, dim, **options)`` that maps (N, in_dim) to (N, dim). To add one,
write a class and ``NETWORKS["mine"] = Mine``.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from locties._util.registry import Registry, check_counts


class Linear(nn.Linear):
    """One affine map, (N, in_dim) to (N, dim): the control for the other networks."""

    def __init__(self, in_dim: int, dim: int) -> None:
        check_counts(in_dim=in_dim, dim=dim)
        super().__init__(in_dim, dim)


class MLP(nn.Sequential):
    """Fully connected layers, (N, in_dim) to (N, dim), with an affine output.

    Args:
        in_dim: number of features.
        dim: length of an embedding.
        hidden: width of the hidden layers.
        layers: number of hidden layers.
        activation: "gelu" or "relu".
    """

    def __init__(
        self, in_dim: int, dim: int, hidden: int = 512, layers: int = 2, activation: str = "gelu"
    ) -> None:
        check_counts(in_dim=in_dim, dim=dim, hidden=hidden, layers=layers)
        function = _ACTIVATIONS[activation]
        modules: list[nn.Module] = [nn.Linear(in_dim, hidden), function()]
        for _ in range(layers - 1):
            modules += [nn.Linear(hidden, hidden), function()]
        super().__init__(*modules, nn.Linear(hidden, dim))


_ACTIVATIONS = Registry("activation", gelu=nn.GELU, relu=nn.ReLU)


class Residual(nn.Sequential):
    """Pre-activation residual network, (N, in_dim) to (N, dim).

    A block is h + W2 GELU(W1 LayerNorm(h)), with biases; a LayerNorm precedes the output too.

    Args:
        in_dim, dim: see `MLP`.
        hidden: width of the identity path and of the blocks.
        layers: number of residual blocks, two affine maps each.

    Source: after the residual location encoder of Mac Aodha, Cole and Perona, "Presence-Only
    Geographical Priors for Fine-Grained Image Classification" (ICCV 2019, arXiv 1906.05272), with
    the identity path of He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016, arXiv
    1603.05027).
    """

    def __init__(self, in_dim: int, dim: int, hidden: int = 512, layers: int = 4) -> None:
        check_counts(in_dim=in_dim, dim=dim, hidden=hidden, layers=layers)
        super().__init__(
            nn.Linear(in_dim, hidden),
            *(_ResidualBlock(hidden) for _ in range(layers)),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, dim),
        )


class _ResidualBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )

    def forward(self, h: Tensor) -> Tensor:
        output: Tensor = h + self.branch(h)
        return output


class Siren(nn.Sequential):
    """Sinusoidal representation network, (N, in_dim) to (N, dim), with an affine output.

    Layers compute sin(w0 (W x + b)). Weights start uniform: in the first layer within 1 / in_dim,
    in later ones and the output within sqrt(6 / hidden) / w0; biases within 1 / sqrt(fan-in).

    Args:
        in_dim, dim, hidden, layers: see `MLP`.
        w0_first, w0: frequency factors of the first and of the later sine layers.

    Source: Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions"
    (NeurIPS 2020, arXiv 2006.09661), with their initialisation.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        hidden: int = 512,
        layers: int = 2,
        w0_first: float = 30.0,
        w0: float = 1.0,
    ) -> None:
        check_counts(in_dim=in_dim, dim=dim, hidden=hidden, layers=layers)
        for name, value in (("w0_first", w0_first), ("w0", w0)):
            if not 1e-6 <= value <= 1e6:
                raise ValueError(f"{name} is {value!r}; pass a number from 1e-6 to 1e6.")
        later = math.sqrt(6 / hidden) / w0
        output = nn.Linear(hidden, dim)
        nn.init.uniform_(output.weight, -later, later)
        super().__init__(
            _SineLayer(in_dim, hidden, w0_first, bound=1 / in_dim),
            *(_SineLayer(hidden, hidden, w0, bound=later) for _ in range(layers - 1)),
            output,
        )


class _SineLayer(nn.Linear):
    def __init__(self, in_dim: int, out_dim: int, w0: float, bound: float) -> None:
        super().__init__(in_dim, out_dim)
        nn.init.uniform_(self.weight, -bound, bound)
        self.w0 = w0

    def forward(self, x: Tensor) -> Tensor:
        # Scaling the weights is cheaper than scaling the activations.
        return torch.sin(nn.functional.linear(x, self.w0 * self.weight, self.w0 * self.bias))


def layers(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs (N, width) of each layer of a network; the last is the network's own output.

    A layer includes the activation that follows it. A module that is not a plain ``nn.Sequential``
    counts as one layer.

    Example:
        >>> [h.shape[1] for h in layers(MLP(in_dim=3, dim=2, hidden=8), torch.ones(1, 3))]
        [8, 8, 2]
    """
    outputs = []
    chain = _chain(network)
    for layer, after in itertools.zip_longest(chain, chain[1:]):
        x = layer(x)
        if after is None or any(True for _ in after.parameters()):
            outputs.append(x)
    return outputs


def split(network: nn.Module) -> tuple[Tensor, Tensor, nn.Sequential] | None:
    """Split off the first affine map of a network: network(x) = rest(x weight^T + bias).

    On a grid, the affine map can then be applied to the factors of the features. `layers` gives the
    same for `rest` as for the network.

    Returns:
        weight (hidden, in_dim), bias (hidden,) and rest, from (N, hidden) to (N, dim); None if the
        network is not known to begin with an affine map, as all networks here do.

    Example:
        >>> network, x = Siren(in_dim=3, dim=2, hidden=8), torch.ones(1, 3)
        >>> weight, bias, rest = split(network)
        >>> bool(rest(x @ weight.T + bias).isclose(network(x)).all())
        True
    """
    first, *others = _chain(network)
    if isinstance(first, _SineLayer):
        return first.w0 * first.weight, first.w0 * first.bias, nn.Sequential(_Sine(), *others)
    if isinstance(first, nn.Linear) and type(first).forward is nn.Linear.forward:
        bias = first.weight.new_zeros(len(first.weight)) if first.bias is None else first.bias
        return first.weight, bias, nn.Sequential(nn.Identity(), *others)
    return None


def _chain(network: nn.Module) -> list[nn.Module]:
    """The modules that a network applies in turn."""
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        return list(network)
    return [network]


class _Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


NETWORKS = Registry("network", linear=Linear, mlp=MLP, residual=Residual, siren=Siren)
