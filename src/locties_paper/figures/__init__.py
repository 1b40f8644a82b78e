"""Charts, model cards and the explorer."""
