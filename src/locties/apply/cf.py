"""How a grid of embeddings describes itself: the CF conventions, version 1.11, sections 4 and 5.6.

Axes are in the order that the conventions recommend, latitude and longitude last, so that GDAL
and rioxarray read the dimensions of an embedding as bands.
"""

from collections.abc import Mapping
from typing import Any

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


def dataset(metadata: Mapping[str, str], resolution: float) -> dict[str, Any]:
    """Attributes of a whole dataset, from those of `locties.apply.metadata.describe`.

    Example:
        >>> dataset({"encoder": "melt", "locties": "0.1.0"}, 0.25)["source"]
        'melt, embedded by locties 0.1.0'
    """
    source = f"{metadata.get('encoder')}, embedded by locties {metadata.get('locties')}"
    return {
        "Conventions": "CF-1.11",
        "title": "Embeddings of places",
        "source": source,
        **metadata,
        "resolution_degrees": round(resolution, 12),
    }
