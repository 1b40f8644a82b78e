"""Frozen features of the embedded tier: those of their encoders, kept, and a prefix of more."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from locties.data import embedded_features, sampling
from locties.data.embedded import Earth
from locties.data.embedded_features import imagery_features, text_features
from locties.data.frozen_encoders import FrozenEncoder, efficientnet_lite0, use_multilingual
from locties.modalities import MODALITIES

pytestmark = pytest.mark.data


@pytest.mark.slow
def test_features_of_texts_are_the_encoder_s(earth: Earth) -> None:
    features, texts = text_features(), earth.texts.texts
    assert features.shape == (len(texts), 512)
    rows = [0, 700, 1623]
    expected = torch.from_numpy(use_multilingual()([texts[row] for row in rows]))
    torch.testing.assert_close(features[rows], expected, atol=1e-3, rtol=0)


def test_an_english_summary_finds_the_french_one_of_its_place(earth: Earth) -> None:
    texts, features = earth.texts, text_features()
    rows: dict[tuple, dict[str, int]] = {}
    for row, place in enumerate(map(tuple, texts.lonlat.tolist())):
        rows.setdefault(place, {}).setdefault(texts.languages[row], row)
    both = [found for found in rows.values() if {"en", "fr"} <= set(found)]
    english, french = (features[[found[code] for found in both]] for code in ("en", "fr"))
    first = (english @ french.T).argmax(1) == torch.arange(len(both))
    assert len(both) > 500
    assert first.float().mean() > 0.6, "chance is 1 in 500"


def test_fewer_images_are_the_first_of_more_on_the_cells_of_imagery(earth: Earth) -> None:
    places, features = imagery_features(1200, "imagery")
    few = imagery_features(10, "imagery")
    assert few[0].equal(places[:10])
    assert few[1].equal(features[:10])
    assert (sampling.owner(places) == sampling.OWNERS.index("imagery")).all()
    patch = earth.imagery.patches(places[1100:1102], 16).round().to(torch.uint8)
    images = list(patch.permute(0, 2, 3, 1).numpy())
    expected = torch.from_numpy(efficientnet_lite0("cpu", side=64)(images))
    torch.testing.assert_close(features[1100:1102], expected, atol=3e-3, rtol=2e-3)


def test_features_are_computed_once_and_again_for_other_weights(
    earth: Earth, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def compute(batch: list) -> np.ndarray:
        calls.append(len(batch))
        return np.ones((len(batch), 3), np.float32)

    def encoder(device: str) -> FrozenEncoder:
        return FrozenEncoder("ones", "1", "0" * 64, "texts", 3, "cpu", compute)

    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded_features, "load", lambda: earth)
    monkeypatch.setattr(embedded_features, "use_multilingual", encoder)
    with ThreadPoolExecutor(4) as pool:  # one computes, the others wait
        found = [pool.submit(text_features) for _ in range(4)]
    assert {each.result().shape for each in found} == {(1624, 3)}
    assert "computing" in capsys.readouterr().err
    assert text_features().shape == (1624, 3)
    assert sum(calls) == 1624
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(embedded_features, "BUILDER", "another")
    text_features()
    assert sum(calls) == 2 * 1624


def test_text_has_its_places_and_enough_of_them_held_out(earth: Earth) -> None:
    text = MODALITIES["text"]()
    assert len(text.lonlat) + len(text.validation.lonlat) == 1624
    assert len(text.validation.lonlat) > 150
