"""Weights as 8-bit numbers, with a scale for each block of 64."""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 64  # one float32 scale for so many numbers: 1.06 bytes a number
_SCALE = ":scale"  # ends the name of a tensor's scales


def pack(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """A state in which the float32 tensors with these names are int8, their scales beside them.

    A number x becomes round(x / s), where 127 s is the largest absolute value among 64 numbers in a
    row; the error is at most s / 2.
    """
    packed = dict(state)
    for name in names:
        blocks = _blocks(state[name])
        scale = blocks.abs().amax(1) / 127
        divisor = torch.where(scale > 0, scale, 1)[:, None]  # a block of zeros stays zero
        numbers = (blocks / divisor).round().to(torch.int8)
        packed[name] = _like(numbers, state[name])
        packed[name + _SCALE] = scale
    return packed


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a packed state back into float32. ValueError if a tensor and its scales do not fit."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(_SCALE)}
    for name in state.keys() - plain.keys():
        numbers, scale = plain.get(name.removesuffix(_SCALE)), state[name]
        if (
            numbers is None
            or numbers.dtype != torch.int8
            or scale.dtype != torch.float32
            or scale.shape != (-(-numbers.numel() // _BLOCK),)
        ):
            raise ValueError(f"tensor {name!r} does not fit its int8 numbers")
        plain[name.removesuffix(_SCALE)] = _like(_blocks(numbers) * scale[:, None], numbers)
    return plain


def _blocks(tensor: Tensor) -> Tensor:
    """A tensor's numbers (blocks, 64), filled up with zeros."""
    flat = tensor.detach().flatten()
    return F.pad(flat, (0, -len(flat) % _BLOCK)).view(-1, _BLOCK)


def _like(blocks: Tensor, tensor: Tensor) -> Tensor:
    return blocks.flatten()[: tensor.numel()].view(tensor.shape).contiguous()
