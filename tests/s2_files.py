"""A small S2-100K: chips, shards of them, and their index."""

import io
import tarfile
from functools import lru_cache

import numpy as np
import rasterio
import torch
from torch import nn


def pixels(seed, shape=(12, 256, 256), dtype="uint16"):
    # A slope and a little noise: compressible, so quick, and yet no smaller than real chips' bound.
    noise = np.random.default_rng(seed).integers(0, 8, shape)
    return (noise + 1000 + 100 * seed % 5000 + np.arange(shape[2])).astype(dtype)


@lru_cache(maxsize=64)
def tiff(seed, shape=(12, 256, 256), dtype="uint16"):
    profile = {"driver": "GTiff", "count": shape[0], "height": shape[1], "width": shape[2]}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    place = {"dtype": dtype, "compress": "lzw", "crs": "EPSG:32633", "transform": transform}
    with rasterio.MemoryFile() as file:
        with file.open(**profile, **place) as image:
            image.write(pixels(seed, shape, dtype))
        return file.read()


def write_shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"data/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_index(path, lonlat):
    lines = [f"{lat},{lon},{name}" for name, (lon, lat) in lonlat.items()]
    path.write_text("\n".join(["lat,lon,fn", *lines]) + "\n")
    return path


def backbone(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(13 * 4, 6))


def dataset(folder):
    """Two shards with 9 good chips, 3 damaged, 1 stranger; the index has one more, absent."""
    first = {f"patch_{i}.tif": tiff(i) for i in range(5)}
    first["patch_5.tif"] = b"small"
    first["stranger.tif"] = tiff(1)
    second = {f"patch_{i}.tif": tiff(i) for i in range(6, 10)}
    second["patch_10.tif"] = tiff(3)[:20_000]
    second["patch_11.tif"] = tiff(3, (3, 256, 256))
    # The index has another order than the shards.
    names = [f"patch_{i}.tif" for i in reversed(range(13))]
    index = write_index(folder / "index.csv", {n: (i, -i) for i, n in enumerate(names)})
    return [write_shard(folder / f"shard-{i}.tar", s) for i, s in enumerate((first, second))], index
