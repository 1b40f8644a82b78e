"""Coordinates and attributes of a grid on disk, by the CF conventions 1.11.

Latitude and longitude come last, so that GDAL and rioxarray read the dimensions of an embedding
as bands.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from locties._util.extras import need

AXES = ("dimension", "lat", "lon")
LON = {
    "standard_name": "longitude",
    "long_name": "longitude of the pixel's centre",
    "units": "degrees_east",
    "axis": "X",
}
LAT = {
    "standard_name": "latitude",
    "long_name": "latitude of the pixel's centre",
    "units": "degrees_north",
    "axis": "Y",
}
DIMENSION = {"long_name": "dimension of the embedding", "units": "1"}
MONTH = {"long_name": "month, 1 January to 12 December", "units": "1"}
EMBEDDING = {"long_name": "embedding of the place", "units": "1"}
GRID_MAPPING = {"grid_mapping": "crs"}
CRS: dict[str, Any] = {
    "grid_mapping_name": "latitude_longitude",
    "geographic_crs_name": "WGS 84",
    "horizontal_datum_name": "World Geodetic System 1984",
    "reference_ellipsoid_name": "WGS 84",
    "prime_meridian_name": "Greenwich",
    "longitude_of_prime_meridian": 0.0,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
    "crs_wkt": (
        'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
        'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,'
        'AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
        'AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
    ),
}


def grid(lon: np.ndarray, lat: np.ndarray, resolution: float, attributes: Mapping[str, str]) -> Any:
    """An xarray Dataset with the coordinates of a grid and its attributes, without data.

    Args:
        lon: (W,) degrees, in equal steps.
        lat: (H,) degrees.
        resolution: size of a pixel, degrees.
        attributes: attributes of the dataset: title, source and others.
    """
    xarray = need("xarray", "a grid on disk or as a Dataset", "export")
    return xarray.Dataset(
        coords={
            "crs": ((), np.int32(0), CRS),
            "lat": ("lat", lat, LAT),
            "lon": ("lon", lon, LON),
        },
        attrs={
            "Conventions": "CF-1.11",
            **attributes,
            "resolution_degrees": round(resolution, 12),
        },
    )


def embeddings(lon: np.ndarray, lat: np.ndarray, dim: int, metadata: Mapping[str, str]) -> Any:
    """The `grid` of embeddings, with metadata from `locties.apply.metadata.describe`.

    A month becomes a coordinate, as attributes of joined datasets are those of the first.
    """
    about = {
        "title": "Embeddings of places",
        "source": f"{metadata.get('encoder')}, embedded by locties {metadata.get('locties')}",
        **{name: text for name, text in metadata.items() if name != "month"},
    }
    coordinates: dict[str, Any] = {
        "dimension": ("dimension", np.arange(dim, dtype=np.int32), DIMENSION)
    }
    if "month" in metadata:
        coordinates["month"] = ((), np.int32(metadata["month"]), MONTH)
    return grid(lon, lat, 360 / len(lon), about).assign_coords(coordinates)
