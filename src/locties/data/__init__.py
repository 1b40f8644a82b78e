"""Data: the manifest of sources, the embedded tier's rasters and places, and where to sample."""
