"""Using a trained encoder: tables, frames, scikit-learn, grids and files."""
