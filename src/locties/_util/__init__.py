"""Small tools that know nothing of locations."""
