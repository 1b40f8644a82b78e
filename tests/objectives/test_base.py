"""What all objectives are given."""

import torch

from locties.objectives import place_of


def test_place_of_tells_places_apart():
    lonlat = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0000001], [1.0, 0.0]])
    place = place_of(lonlat)
    assert place[0] == place[1], "-0.0 is 0.0"
    assert len(place.unique()) == 3
