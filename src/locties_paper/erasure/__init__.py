"""What alignment erases, in worlds with known factors and in real modalities."""
