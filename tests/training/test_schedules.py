"""What a batch holds under each schedule; how often every pair is seen is in test_properties.py."""

import pytest

from locties.training.schedules import Clip, Melt, Salt

FIVE = ["imagery", "rain", "haze", "relief", "toponyms"]


@pytest.mark.parametrize("batch", [5, 7, 256, 1024, 2048])
def test_melt_mixes_all_modalities_as_equally_as_the_batch_allows(batch):
    counts = Melt(FIVE).counts(0, batch)
    assert list(counts) == FIVE
    assert sum(counts.values()) == batch, "a batch counts all modalities together"
    assert max(counts.values()) - min(counts.values()) <= 1


def test_melt_refuses_a_batch_that_cannot_hold_every_modality():
    with pytest.raises(ValueError, match=r"batch=4 .*5 modalities.*batch=5"):
        Melt(FIVE).counts(0, 4)


def test_salt_gives_every_modality_its_turn():
    turns = [Salt(FIVE).counts(epoch, 64) for epoch in range(10)]
    assert [list(turn) for turn in turns] == [[name] for name in FIVE + FIVE]
    assert all(sum(turn.values()) == 64 for turn in turns)


def test_clip_takes_one_modality_and_says_so():
    assert Clip(["haze"]).counts(3, 64) == {"haze": 64}
    with pytest.raises(ValueError, match=r"2 \(haze, relief\).*'melt'"):
        Clip(["haze", "relief"])
