"""Metadata of embeddings: the encoder's name, hash and licence, and the CRS."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from locties import __version__
from locties.encoder import LocationEncoder, load

# From lonlat (N, 2), and months (N,) if the encoder has a `time`, to (N, dim).
Encoder = Callable[..., Tensor]
CRS = "EPSG:4326"


def describe(encoder: Encoder) -> dict[str, str]:
    """What made an embedding, as plain text by name.

    Returns:
        `encoder`: its name, from ``origin["name"]`` or ``origin["model"]``, else "embedding".
        `weights_sha256`: the sha256 of a `LocationEncoder`'s weights, which its ``config.json`` has
        too unless it was saved with `as_int8`; or ``origin["sha256"]`` of another callable.
        `licence`: ``origin["licence"]``, else "not stated".
        `crs`: of the coordinates. `locties`: the version.
        `month`: the month in which the encoder is fixed, if it is.

    Example:
        >>> encoder = LocationEncoder(features="xyz", network="linear", dim=4)
        >>> describe(encoder)["encoder"], describe(encoder)["crs"]
        ('embedding', 'EPSG:4326')
    """
    origin: dict[str, Any] = getattr(encoder, "origin", {})
    metadata = {"encoder": str(origin.get("name") or origin.get("model") or "embedding")}
    if isinstance(encoder, LocationEncoder):
        state = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
        metadata["weights_sha256"] = hashlib.sha256(safetensors.torch.save(state)).hexdigest()
        if encoder.month is not None:
            metadata["month"] = str(encoder.month)
    elif "sha256" in origin:
        metadata["weights_sha256"] = str(origin["sha256"])
    return {
        **metadata,
        "licence": str(origin.get("licence") or "not stated"),
        "crs": CRS,
        "locties": __version__,
    }


def resolve(
    encoder: str | Path | Encoder, month: int | None = None
) -> tuple[Encoder, dict[str, str]]:
    """An encoder and its metadata from `describe`, with the given name or the folder's.

    Args:
        encoder: name of an encoder that comes with locties, folder that `LocationEncoder.save`
            wrote, `LocationEncoder`, or any function from lonlat (N, 2) float32 to (N, dim).
        month: the month in which to take an encoder that has a `time`.

    Example:
        >>> encoder, metadata = resolve("best")
        >>> encoder.dim, metadata["encoder"]
        (1280, 'best')
    """
    name = {}
    if isinstance(encoder, str | Path):
        name = {"encoder": Path(encoder).resolve().name}
        encoder = load(encoder)
    if month is not None:
        encoder = in_month(encoder, month)
    if not callable(encoder):
        raise ValueError(
            f"{type(encoder).__name__} is not an encoder: the first argument is a name such as "
            "'melt', a folder or a LocationEncoder"
        )
    return encoder, describe(encoder) | name


def takes_month(encoder: Encoder) -> bool:
    """Whether an encoder needs a month beside each place."""
    return getattr(encoder, "time", None) is not None and getattr(encoder, "month", None) is None


def in_month(encoder: Encoder, month: Any) -> Encoder:
    """``encoder.in_month(month)``; ValueError for an encoder that has none."""
    if not hasattr(encoder, "in_month"):
        raise ValueError(
            f"month={month!r}: only a LocationEncoder takes a month, not a "
            f"{type(encoder).__name__}: leave the month out"
        )
    fixed: Encoder = encoder.in_month(month)
    return fixed


def column_names(name: str, dim: int) -> list[str]:
    """Names of an embedding's columns: melt_000, melt_001, and so on.

    Example:
        >>> column_names("melt", 2), column_names("mine:16", 16)[0]
        (['melt_000', 'melt_001'], 'mine_16_000')
    """
    digits, name = max(3, len(str(dim - 1))), name.replace(":", "_")
    return [f"{name}_{i:0{digits}d}" for i in range(dim)]
