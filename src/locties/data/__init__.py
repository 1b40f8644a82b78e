"""Data: the manifest of sources, the embedded tier, and where to draw samples."""
