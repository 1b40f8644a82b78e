"""Charts, model cards and the map explorer."""
