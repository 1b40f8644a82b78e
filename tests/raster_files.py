"""Rasters that tests write, and how they are read."""

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine

import locties


def write(
    path: Path, values: np.ndarray, transform: Affine, crs: object = "EPSG:4326", **options
) -> Path:
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": str(values.dtype), "crs": crs, "transform": transform}
    with rasterio.open(path, "w", **(profile | options)) as raster:
        raster.write(values)
    return path


def noise(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, height, width)).astype(np.float32)


def read(source: object, **options) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and values of a raster's samples."""
    modality = locties.read_modality(source, **{"name": "own", "beside": (), **options})
    samples = modality.samples[torch.arange(len(modality.lonlat))]
    return modality.lonlat.double().numpy(), samples.numpy()
