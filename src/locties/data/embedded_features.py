"""Texts and imagery of the embedded tier through frozen encoders, computed once into the cache."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from locties.data.embedded import BUILDER, load
from locties.data.frozen import Item, as_it_is, features, in_order
from locties.data.frozen_encoders import FrozenEncoder, efficientnet_lite0, use_multilingual
from locties.data.frozen_folder import Index, make_index, read_features, read_manifest
from locties.data.manifest import cache_folder, manifest_hash, source
from locties.data.sampling import land_lonlat

PATCH = 16  # pixels along each side of a patch of imagery
# Pixels that a patch is enlarged to. We fitted ridge on the features of 1,200 patches to the year's
# rain, temperature and altitude. On 400 others R² is .72, .50, .36 at 64 pixels; .74, .52, .35 at
# 128; .74, .57, .38 at 224; and .69, .33, .04 with means of the pixels in place of features. One
# core computes 364 patches a second at 64, 54 at 128 and 12 at 224.
SIDE = 64
CHUNK = 1000  # patches in one folder


@dataclass(eq=False)
class _InMemory:
    """A source for `locties.data.frozen.features`: contents in memory, each at a place."""

    kind: str
    index: Index
    recipe: dict[str, Any]
    forms: Mapping[str, Callable[[Any], Any]]
    contents: Sequence[Any]
    unusable: list[tuple[str, str]] = field(default_factory=list)

    def items(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """The contents after the manifest's position."""
        return in_order(self.index, self.contents, manifest)


def text_features() -> Tensor:
    """Features (T, 512) float32 of `Earth.texts` by multilingual USE.

    They are computed on first use, in about half a minute, with progress on stderr.
    """
    texts = load().texts

    def make() -> _InMemory:
        names = [
            f"{language}: {title}"
            for language, title in zip(texts.languages, texts.titles, strict=True)
        ]
        index = make_index(names, texts.lonlat.numpy())
        return _InMemory("texts", index, {}, {"texts": as_it_is}, texts.texts)

    return _computed("text", use_multilingual, "use_multilingual", make)


def imagery_features(n: int, owned_by: str) -> tuple[Tensor, Tensor]:
    """Places (n, 2) and features (n, 1280) float32 of their imagery by EfficientNet-Lite0.

    The places are uniform by area on the land cells of one owner. Their order is fixed, so a
    smaller n gives the first of them. Features are computed on first use, 1,000 at a time, about
    400 a second on one core, with progress on stderr.

    A patch has 16 x 16 pixels. It is enlarged to 64 pixels. The encoder was trained on photographs
    of 224 pixels, but enlarging to 224 takes thirty times as long.
    """
    places, computed = [], []
    for chunk in range(-(-n // CHUNK)):
        seed = zlib.crc32(f"imagery_frozen:{owned_by}:{chunk}".encode())
        lonlat = land_lonlat(load(), CHUNK, torch.Generator().manual_seed(seed), owned_by)
        make = partial(_patches, lonlat)
        encoder = partial(efficientnet_lite0, side=SIDE)
        name = f"imagery-{SIDE}/{owned_by}-{chunk}"
        places.append(lonlat)
        computed.append(_computed(name, encoder, "efficientnet_lite0", make))
    return torch.cat(places)[:n], torch.cat(computed)[:n]


def _patches(lonlat: Tensor) -> _InMemory:
    pixels = load().imagery.patches(lonlat, PATCH).round().to(torch.uint8)
    contents = list(pixels.permute(0, 2, 3, 1).numpy())
    index = make_index([str(row) for row in range(len(lonlat))], lonlat.numpy())
    return _InMemory("images", index, {"side": SIDE}, {"images": as_it_is}, contents)


def _computed(
    name: str,
    encoder: Callable[..., FrozenEncoder],
    weights: str,
    make: Callable[[], _InMemory],
) -> Tensor:
    """The features in the cache's folder of this name, computed now if they are missing.

    The folder depends on the data and on the encoder's weights.
    """
    key = [manifest_hash(BUILDER), *(file.sha256 for file in source(weights).files)]
    digest = hashlib.sha256("".join(key).encode()).hexdigest()[:12]
    folder = cache_folder() / f"features-{digest}" / name
    if not _complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # another process may compute it: wait for its result
            if not _complete(folder):
                print(f"locties: computing {folder}, once", file=sys.stderr)
                features(make(), encoder(device="cpu"), folder, dtype="float16")
    return read_features(folder)[1].float()


def _complete(folder: Path) -> bool:
    return bool((read_manifest(folder) or {}).get("complete"))
