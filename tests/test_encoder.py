"""LocationEncoder: what it takes, what it refuses, and what it leaves on disk.

That every feature and network comes back bit by bit is in test_properties.py.
"""

import copy
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import locties
from locties.encoder import (
    PUBLISHED,
    LocationEncoder,
    _digest,
    load,
    published,
    read_card,
    read_config,
)
from locties.features import FEATURES
from locties.networks import NETWORKS

PLACES = torch.tensor([(13.4, 52.5), (-70.7, -33.5), (-180.0, 0.0), (179.9, -16.5), (0.0, 90.0)])


def small(features: str = "xyz", network: str = "mlp", **options: object) -> LocationEncoder:
    network_options = {} if network == "linear" else {"hidden": 8}
    return LocationEncoder(features, network, dim=6, network_options=network_options, **options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    small().save(folder)
    return folder


def rewrite_config(folder: Path, sealed: bool = True, **changes: object) -> None:
    """Change a configuration, with a checksum that fits it where it is `sealed`."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    config = {key: value for key, value in config.items() if value != "drop"}
    if sealed and "config_sha256" in config:
        config["config_sha256"] = _digest(config)
    path.write_text(json.dumps(config))


def rewrite_weights(folder: Path, weights: bytes) -> None:
    """Other weights with a matching sha256."""
    (folder / "model.safetensors").write_bytes(weights)
    rewrite_config(folder, sha256=hashlib.sha256(weights).hexdigest())


def test_layers_are_read_as_unit_vectors_and_come_back_from_disk(tmp_path: Path) -> None:
    encoder = small("spherical_harmonics", "siren", readout="layers")
    encoder.save(tmp_path / "layers")
    found = load(tmp_path / "layers")
    embedding = found(PLACES)
    assert embedding.shape == (5, 8 + 8 + 6)
    assert (encoder.dim, encoder.network_dim) == (8 + 8 + 6, 6)
    assert embedding.equal(encoder(PLACES))
    for part in embedding.split([8, 8, 6], dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(5))
    assert encoder.encode(PLACES).shape == (5, 6), "training ties the output alone"
    torch.testing.assert_close(
        embedding[:, -6:], nn.functional.normalize(encoder.encode(PLACES), dim=1)
    )


def test_the_default_is_the_papers_encoder() -> None:
    encoder = LocationEncoder()
    embedding = encoder(PLACES)
    assert embedding.shape == (5, 256)
    assert embedding.dtype == torch.float32
    assert encoder.config == {
        "features": "spherical_harmonics",
        "feature_options": {"degree": 40},
        "network": "siren",
        "network_options": {"hidden": 512, "layers": 2, "w0_first": 30.0, "w0": 1.0},
        "dim": 256,
        "seed": 0,
        "readout": "output",
    }


def test_load_restores_the_saved_frequencies_whatever_the_seed_would_give(tmp_path: Path) -> None:
    encoder = small("fourier")
    encoder.features.frequencies.mul_(2)
    encoder.save(tmp_path / "encoder")
    assert torch.equal(load(tmp_path / "encoder")(PLACES), encoder(PLACES))


def test_tensors_arrays_and_lists_embed_alike() -> None:
    encoder = small()
    expected = encoder(PLACES.double())
    assert torch.equal(encoder(PLACES.double().numpy()), expected)
    assert torch.equal(encoder(PLACES.double().tolist()), expected)
    assert torch.equal(encoder(PLACES.double() + torch.tensor([360.0, 0.0])), expected)


def test_encode_is_forward_without_the_check() -> None:
    encoder = small()
    assert torch.equal(encoder.encode(PLACES), encoder(PLACES))


def test_float64_coordinates_keep_their_digits() -> None:
    encoder = LocationEncoder("equal_earth_fourier", "linear", dim=8)
    near = torch.tensor([[179.0, 10.0], [179.0 + 1e-6, 10.0]], dtype=torch.float64)
    a, b = encoder(near)
    assert (a - b).abs().max() > 0, "a step of 0.1 m is lost before the features"


def test_another_default_dtype_changes_nothing() -> None:
    expected = load("melt")(PLACES)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(load("melt")(PLACES), expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_that_load_would_refuse_are_not_saved(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"float16.*encoder\.float\(\)"):
        small().half().save(saved)
    assert torch.equal(load(saved)(PLACES), small()(PLACES)), "the old one was lost"


def test_an_altered_size_is_refused_before_it_takes_memory(saved: Path) -> None:
    rewrite_config(saved, sealed=False, dim=400_000_000_000)
    with pytest.raises(ValueError, match=r"config\.json is altered"):
        load(saved)


def test_output_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(PLACES).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": "spherical_harmonic"}, "did you mean 'spherical_harmonics'"),
        ({"network": "sirn"}, "did you mean 'siren'"),
        ({"feature_options": {"degre": 3}}, "did you mean 'degree'"),
        ({"network_options": {"hiden": 3}}, "did you mean 'hidden'"),
        ({"network_options": {"dim": 3}}, "unknown option of network 'siren' 'dim'"),
        ({"network_options": {"in_dim": 3}}, "unknown option of network 'siren' 'in_dim'"),
        ({"feature_options": {"degree": -1}}, "degree is -1; pass a whole number"),
        ({"network_options": {"hidden": "wide"}}, "hidden is 'wide'; pass a whole number"),
        ({"network_options": {"w0": None}}, "options of network 'siren' do not fit"),
        ({"network_options": {"w0": float("inf")}}, "options of network 'siren' do not fit"),
        ({"features": "fourier", "feature_options": {"sigmas": 4.0}}, "'fourier' do not fit"),
        ({"feature_options": {"degree": torch.ones(1)}}, "not JSON serializable"),
        ({"dim": 0}, "dim is 0; pass a whole number"),
        ({"seed": 1.5}, "seed is 1.5; pass a whole number"),
    ],
)
def test_wrong_choices_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is tested just below)
        LocationEncoder(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_seed_makes_the_weights_and_touches_nothing_else(network: str) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = small(network=network, seed=5)
    assert torch.equal(before, torch.random.get_rng_state()), "the global random state has changed"
    torch.manual_seed(456)
    again, other = small(network=network, seed=5), small(network=network, seed=6)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


def test_the_random_state_of_gpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def reseeded(seed: int) -> None:
        raise AssertionError(f"the GPUs were reseeded with {seed}")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded)
    small(seed=1)


def test_numpy_integers_are_integers() -> None:
    encoder = LocationEncoder("xyz", "linear", dim=np.int64(4), seed=np.int32(1))
    assert encoder.config["dim"] == 4
    assert encoder([[0.0, 0.0]]).shape == (1, 4)


def test_changing_the_config_does_not_change_the_encoder() -> None:
    encoder = small()
    encoder.config["network_options"]["hidden"] = 99
    assert encoder.config["network_options"]["hidden"] == 8


def test_a_feature_and_a_network_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Hemisphere(nn.Module):
        dim, continuous = 1, False

        def forward(self, lonlat: Tensor) -> Tensor:
            return lonlat[:, 1:].sign().float()

    class Repeat(nn.Module):
        def __init__(self, in_dim: int, dim: int, times: float = 1.0) -> None:
            super().__init__()
            self.dim, self.times = dim, times

        def forward(self, x: Tensor) -> Tensor:
            return self.times * x.repeat(1, self.dim)

    monkeypatch.setitem(FEATURES, "hemisphere", Hemisphere)
    monkeypatch.setitem(NETWORKS, "repeat", Repeat)
    encoder = LocationEncoder("hemisphere", "repeat", dim=2, network_options={"times": 3})
    assert encoder([[0, 10], [0, -10]]).tolist() == [[3, 3], [-3, -3]]
    encoder.save(tmp_path / "own")
    assert torch.equal(load(tmp_path / "own")(PLACES), encoder(PLACES))
    monkeypatch.delitem(FEATURES, "hemisphere")
    with pytest.raises(ValueError, match="unknown feature 'hemisphere'"):
        load(tmp_path / "own")


def test_a_saved_folder_holds_two_plain_files(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((saved / "config.json").read_text())
    weights = (saved / "model.safetensors").read_bytes()
    assert config["sha256"] == hashlib.sha256(weights).hexdigest()
    assert config["locties"] == locties.__version__
    assert safetensors.torch.load(weights).keys() == small().state_dict().keys()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"network_options": {"hidden": 8, "layers": 2, "w0_first": 30.0, "w0": 2.0}},
        {"readout": "layers"},
        {"origin": {"licence": "none"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_configuration_that_fits_the_weights_and_is_altered_is_refused(
    tmp_path: Path, change: dict
) -> None:
    encoder = small("spherical_harmonics", "siren")
    encoder.save(tmp_path / "encoder")
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert config.keys() >= change.keys()
    rewrite_config(tmp_path / "encoder", sealed=False, **change)
    for read in (load, read_config):
        with pytest.raises(ValueError, match=r"config\.json is altered.*save the encoder again"):
            read(tmp_path / "encoder")


def test_the_layout_of_a_configuration_is_of_no_consequence(saved: Path) -> None:
    rewrite_config(saved)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert torch.equal(load(saved)(PLACES), small()(PLACES))


def test_a_name_means_the_same_encoder_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("melt").mkdir()
    assert load("melt").config["dim"] == 256
    small().save("melt")
    assert load("melt").config["dim"] == 256
    for own in ("./melt", Path("melt")):
        assert torch.equal(load(own)(PLACES), small()(PLACES))


def test_saving_replaces_an_encoder_and_leaves_nothing_beside_it(saved: Path) -> None:
    other = small(seed=9)
    other.save(saved)
    assert torch.equal(load(saved)(PLACES), other(PLACES))
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_makes_missing_parents_and_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    small().save(tmp_path / "empty")
    small().save(str(tmp_path / "a" / "b" / "encoder"))
    assert torch.equal(load(tmp_path / "empty")(PLACES), load(tmp_path / "a/b/encoder")(PLACES))


def test_saving_through_a_link_replaces_what_it_points_to(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(saved, target_is_directory=True)
    small(seed=9).save(link)
    assert link.is_symlink()
    assert load(saved).config["seed"] == 9


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis.tex.*pass a new folder"):
        small().save(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        small().save(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("broken", ["write", "rename"])
def test_a_failed_save_leaves_the_old_encoder(
    saved: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    expected = load(saved)(PLACES)

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    if broken == "write":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        rename = Path.rename

        def fail_second(self: Path, target: Path) -> Path:
            return (
                full_disk() if target == saved and ".old" not in self.name else rename(self, target)
            )

        monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(OSError, match="no space left"):
        small(seed=9).save(saved)
    monkeypatch.undo()
    assert torch.equal(load(saved)(PLACES), expected)
    assert list(saved.parent.iterdir()) == [saved], "something was left beside the encoder"


def test_other_users_may_read_what_was_saved(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_wrong_name_suggests_the_nearest_and_lists_what_ships() -> None:
    with pytest.raises(FileNotFoundError) as error:
        locties.load("mlet")
    known = ", ".join(published())
    assert f"'mlet': did you mean 'melt'? Known: {known}." in str(error.value)
    assert "LocationEncoder.save" in str(error.value)


@pytest.mark.parametrize("name", published())
def test_altered_weights_of_a_published_encoder_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PUBLISHED / name, tmp_path / name)
    monkeypatch.setattr("locties.encoder.PUBLISHED", tmp_path)
    assert published() == [name]
    assert locties.load(name).network_dim == 256
    path = tmp_path / name / "model.safetensors"
    weights = bytearray(path.read_bytes())
    weights[-1] ^= 1
    path.write_bytes(weights)
    with pytest.raises(ValueError, match="truncated or altered: its sha256 is"):
        locties.load(name)


def test_a_card_is_kept_with_its_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    small().save(folder, card="# mine\n\nR² 0.5\n")
    assert read_card(folder) == "# mine\n\nR² 0.5\n"
    assert torch.equal(load(folder)(PLACES), small()(PLACES))
    (folder / "card.md").write_text("# mine\n\nR² 0.9\n")
    with pytest.raises(ValueError, match=r"card\.md is truncated or altered"):
        read_card(folder)
    small(seed=9).save(folder)
    assert not (folder / "card.md").exists(), "it was about the encoder before"
    with pytest.raises(FileNotFoundError, match=r"card\.md is missing"):
        read_card(folder)
    (folder / "card.md").write_text("# typed\n")
    with pytest.raises(ValueError, match="says None"):
        read_card(folder)


def test_the_configuration_is_read_without_the_weights(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    config = read_config(saved)
    assert {key: config[key] for key in small().config} == small().config
    assert len(config["sha256"]) == 64


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*Copy or save it again"):
        load(saved)


def test_truncated_and_altered_weights_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    weights = path.read_bytes()
    flipped = bytes([weights[-1] ^ 1])
    for damaged in (weights[:-10], b"", weights[:-1] + flipped, weights + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"truncated or altered: its sha256 is"):
            load(saved)


def test_weights_of_another_encoder_are_refused(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    LocationEncoder("xyz", "mlp", dim=6, network_options={"hidden": 9}).save(other)
    rewrite_weights(saved, (other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"float32 of shape \(9,\), expected .* shape \(8,\)"):
        load(saved)


def test_weights_in_another_dtype_or_with_a_tensor_missing_are_refused(saved: Path) -> None:
    state = small().state_dict()
    halved = {name: value.half() for name, value in state.items()}
    rewrite_weights(saved, safetensors.torch.save(halved))
    with pytest.raises(ValueError, match=r"torch.float16 .* expected torch.float32"):
        load(saved)
    name, _ = state.popitem()
    rewrite_weights(saved, safetensors.torch.save(state))
    with pytest.raises(ValueError, match=f"tensor '{name}' is absent"):
        load(saved)


def test_a_pickle_is_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save(Bomb(), tmp_path / "bomb")
    rewrite_weights(saved, (tmp_path / "bomb").read_bytes())
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load(saved)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "locties": "9.1"}, r"has format 2, written by locties 9.1.*Update locties"),
        ({"format": "drop"}, "has format None"),
        ({"features": "drop", "sha256": "drop"}, "lacks features, sha256"),
        (
            {"features": "xzy"},
            r"does not describe an encoder: unknown feature 'xzy': did you mean 'xyz'",
        ),
        ({"features": ["xyz"]}, "does not describe an encoder"),
        ({"network_options": {"depth": 2}}, "unknown option of network 'mlp' 'depth'"),
        ({"network_options": 5}, "does not describe an encoder"),
        ({"dim": "6"}, "dim is '6'"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(saved: Path, changes: dict, message: str) -> None:
    rewrite_config(saved, **changes)
    with pytest.raises(ValueError, match=message):
        load(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\x00\xff"])
def test_a_config_that_is_no_json_object_is_refused(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json is (truncated or )?altered"):
        load(saved)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("features", FEATURES)
def test_on_a_gpu_it_agrees_and_never_waits(features: str) -> None:
    encoder = small(features)
    expected = encoder(PLACES)
    encoder.cuda()
    assert (encoder(PLACES).cpu() - expected).abs().max() < 1e-4
    lonlat = PLACES.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        encoder.encode(lonlat)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_float64_weights_are_kept_and_compute_in_float64(tmp_path: Path) -> None:
    encoder = LocationEncoder(dim=4, feature_options={"degree": 5}).double().eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 1e-10  # less than float32 can tell
    encoder.save(tmp_path / "encoder")
    loaded = load(tmp_path / "encoder")
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    inside = loaded.network(loaded.features(PLACES.double()))
    assert inside.dtype == torch.float64
    assert loaded(PLACES).dtype == torch.float32
    single = copy.deepcopy(loaded).float()
    assert 0 < (single(PLACES) - inside).abs().max() < 1e-4


def test_an_origin_is_plain_and_empty_by_default(tmp_path: Path) -> None:
    encoder = small()
    assert encoder.origin == {}
    encoder.origin = {"model": "Mine", "licence": "MIT"}
    encoder.save(tmp_path / "encoder")
    assert load(tmp_path / "encoder").origin == {"model": "Mine", "licence": "MIT"}
    assert (
        json.loads((tmp_path / "encoder" / "config.json").read_text())["origin"]["model"] == "Mine"
    )


@pytest.mark.parametrize("folder", [None, 3, ["melt"]])
def test_what_is_no_name_or_folder_is_refused(folder):
    with pytest.raises(ValueError, match=f"not from {re.escape(repr(folder))}"):
        load(folder)
