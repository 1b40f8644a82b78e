"""LocationEncoder: what it takes, what it refuses, and what it leaves on disk.

That every feature and network comes back bit by bit is in test_properties.py.
"""

import copy
import hashlib
import inspect
import json
import math
import multiprocessing
import os
import re
import resource
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import locties
from locties._util.files import DataError
from locties.encoder import LocationEncoder, load
from locties.features import FEATURES
from locties.networks import NETWORKS
from locties.saved import ARGUMENTS, OPTIONAL, PUBLISHED, _digest, published, read_card, read_config

PLACES = torch.tensor([(13.4, 52.5), (-70.7, -33.5), (-180.0, 0.0), (179.9, -16.5), (0.0, 90.0)])


def small(features: str = "xyz", network: str = "mlp", **options: object) -> LocationEncoder:
    network_options = {} if network == "linear" else {"hidden": 8}
    return LocationEncoder(features, network, dim=6, network_options=network_options, **options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    small().save(folder)
    return folder


def test_the_configuration_holds_every_argument() -> None:
    assert list(inspect.signature(LocationEncoder).parameters) == [*ARGUMENTS, *OPTIONAL]


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


def test_an_encoder_with_a_month_depends_on_it_and_comes_back_from_disk(tmp_path: Path) -> None:
    encoder = small("spherical_harmonics", "siren", readout="layers", time="month")
    embedding = encoder(PLACES, month=[1, 4, 7, 10, 12])
    assert embedding.shape == (5, encoder.dim)
    torch.testing.assert_close(embedding[:1], encoder(PLACES[:1], month=1))
    assert not embedding[:1].allclose(encoder(PLACES[:1], month=7))
    encoder.save(tmp_path / "seasonal")
    found = load(tmp_path / "seasonal")
    assert found.config == encoder.config
    assert found(PLACES, torch.tensor([1, 4, 7, 10, 12])).equal(embedding)
    july = found.in_month(7)
    assert july(PLACES).equal(found(PLACES, 7))
    assert found.month is None, "in_month changed the encoder itself"
    assert july.in_month(1)(PLACES).equal(found(PLACES, 1)), "months are fixed anew"
    with pytest.raises(ValueError, match=r"fixed in month 7.*load\(folder\)\.in_month\(7\)"):
        july.save(tmp_path / "july")
    assert not (tmp_path / "july").exists()


def test_many_places_in_months_are_embedded_in_parts_alike() -> None:
    encoder = small(time="month").eval()
    lonlat = torch.rand(70_000, 2, generator=torch.manual_seed(0)) * 80
    month = torch.arange(70_000) % 12 + 1
    with torch.no_grad():
        torch.testing.assert_close(encoder(lonlat, month), encoder.encode(lonlat, month))


def test_without_time_nothing_about_months_is_kept(tmp_path: Path) -> None:
    encoder = small()
    encoder.save(tmp_path / "timeless")
    assert "time" not in json.loads((tmp_path / "timeless" / "config.json").read_text())
    assert encoder.network[0].in_features == encoder.features.dim
    with pytest.raises(ValueError, match=r"takes no month, and month is 7: leave .* out"):
        encoder(PLACES, month=7)
    with pytest.raises(ValueError, match="takes no month"):
        encoder.in_month(7)


@pytest.mark.parametrize(
    ("month", "said"),
    [
        (None, r"month is None: pass month=7, .*in_month\(7\)"),
        (13, "row 0 is 13: give whole numbers from 1"),
        ([1, 2, 0, 4, 5], "row 2 is 0"),
        ([1, 2, 3.5, 4, 5], "row 2 is 3.5"),
        ([1, 2, 3, 4, math.nan], "row 4 is nan"),
        ([1, 2], r"shape \(2,\) and there are 5 places"),
        ("July", "'July': give whole numbers from 1"),
        (True, "give whole numbers"),
        (torch.tensor(True), "torch.bool: give whole numbers"),
    ],
)
def test_a_wrong_month_is_refused(month: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(time="month")(PLACES, month)


def test_an_unknown_time_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown time 'year'.*Known: month"):
        small(time="year")
    rewrite_config(saved, time="month")  # of an encoder without
    with pytest.raises(DataError, match="does not fit"):
        load(saved)


def test_a_nested_dimension_is_read_by_name_by_folder_and_by_hand(saved: Path) -> None:
    encoder = small(nested=[2, 4])
    encoder.save(saved)
    whole, expected = load(saved)(PLACES), encoder(PLACES)
    assert torch.equal(whole, expected)
    assert load(saved).config == encoder.config == small().config | {"nested": [2, 4]}
    for name in (f"{saved}:4", Path(f"{saved}:4")):
        first = load(name)
        assert first.dim == 4
        assert torch.equal(first(PLACES), expected[:, :4])
    encoder.readout = 2
    assert torch.equal(encoder(PLACES), expected[:, :2])
    encoder.save(saved)
    assert load(saved).dim == 2
    assert read_config(f"{saved}:4")["readout"] == 2, "the file is as it was saved"
    encoder.readout = "output"
    assert torch.equal(encoder(PLACES), expected)


def test_without_nested_dimensions_a_configuration_is_as_it_was(saved: Path) -> None:
    assert "nested" not in small().config
    assert "nested" not in json.loads((saved / "config.json").read_text())
    assert load(saved).nested == []


@pytest.mark.parametrize("readout", [3, 6, 0, -2, True, None, 2.5])
def test_other_dimensions_are_refused(readout: object, saved: Path) -> None:
    encoder = small(nested=[2, 4])
    with pytest.raises(ValueError, match=rf"readout={readout}.*\(2, 4\): pass one of them"):
        encoder.readout = readout
    assert encoder.readout == "output"


def test_a_name_with_a_dimension_that_is_not_nested_is_refused(saved: Path) -> None:
    for name in ("melt:64", f"{saved}:4"):
        with pytest.raises(ValueError, match=r"readout=\d+ .*made without nested"):
            load(name)
    with pytest.raises(FileNotFoundError, match="no folder 'none'"):
        load("none:4")


def test_two_dimensions_are_refused(saved: Path) -> None:
    small(nested=[2, 4]).save(saved)
    with pytest.raises(FileNotFoundError, match=r"no folder '.*:4'"):
        load(f"{saved}:4:2")


@pytest.mark.parametrize("nested", [[4, 2], [2, 2], [6], [7], [0], [2.5], "2", 4, {2, 4}, [True]])
def test_nested_dimensions_rise_and_are_smaller_than_the_whole(nested: object) -> None:
    with pytest.raises(ValueError, match=r"nested( is |=).*pass "):
        small(nested=nested)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path) -> None:
    small().save(tmp_path / "run:4")
    assert torch.equal(load(str(tmp_path / "run:4"))(PLACES), small()(PLACES))


def test_the_encoders_that_ship_leave_room_in_the_wheel() -> None:
    assert sum(path.stat().st_size for path in PUBLISHED.rglob("*")) < 25_000_000


INT8 = {"melt": 0.9995, "best": 0.9995, "hash_grid": 0.9995}  # the least cosine


@pytest.mark.parametrize("name", INT8)
def test_int8_takes_a_quarter_of_the_bytes_and_little_from_the_embedding(
    name: str, tmp_path: Path
) -> None:
    if name == "hash_grid":
        options = {"levels": 4, "finest": 32, "rows": 2**12}
        encoder = LocationEncoder("hash_grid", "residual", 64, options, {"hidden": 64})
        encoder.features.tables.data.mul_(1000)  # as training does
    else:
        encoder = load(name)
    encoder.save(tmp_path / "whole")
    encoder.save(tmp_path / "small", as_int8=True)
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("whole", "small")]
    assert 0.25 < sizes[1] / sizes[0] < 0.3
    generator = torch.Generator().manual_seed(0)
    places = (torch.rand(2000, 2, generator=generator) - 0.5) * torch.tensor([360.0, 180.0])
    found = load(tmp_path / "small")
    assert {x.dtype for x in found.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        cosine = nn.functional.cosine_similarity(found(places), encoder(places))
    assert cosine.min() > INT8[name]
    assert cosine.min() < 1 - 1e-7, "nothing was rounded"
    found.save(tmp_path / "again", as_int8=True)
    torch.testing.assert_close(load(tmp_path / "again")(PLACES), found(PLACES))


def test_int8_leaves_frequencies_and_biases_exact(tmp_path: Path) -> None:
    encoder = small("equal_earth_fourier")
    encoder.save(tmp_path / "small", as_int8=True)
    found = load(tmp_path / "small")
    assert torch.equal(found.features.frequencies, encoder.features.frequencies)
    assert torch.equal(found.network[0].bias, encoder.network[0].bias)
    assert read_config(tmp_path / "small")["format"] == 2, "older versions refuse it by name"
    with pytest.raises(ValueError, match=r"float64: call encoder\.float\(\)"):
        encoder.double().save(tmp_path / "small", as_int8=True)
    encoder.float().save(tmp_path / "small", as_int8=True)


def test_int8_numbers_without_their_scales_are_refused(tmp_path: Path) -> None:
    small().save(tmp_path / "small", as_int8=True)
    state = safetensors.torch.load_file(tmp_path / "small" / "model.safetensors")
    short = state | {"network.0.weight:scale": torch.ones(9)}
    rewrite_weights(tmp_path / "small", safetensors.torch.save(short))
    with pytest.raises(DataError, match=r"scale' does not fit.*save the encoder again"):
        load(tmp_path / "small")
    del state["network.0.weight:scale"]
    rewrite_weights(tmp_path / "small", safetensors.torch.save(state))
    with pytest.raises(DataError, match=r"'network\.0\.weight' is torch\.int8"):
        load(tmp_path / "small")


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


def halved_and_double(encoder: LocationEncoder) -> None:
    encoder.network[0].double()


def not_finite(encoder: LocationEncoder) -> None:
    with torch.no_grad():
        encoder.network[0].bias[1] = torch.inf


def pruned(encoder: LocationEncoder) -> None:
    prune.l1_unstructured(encoder.network[0], "weight", 0.5)


def other_activation(encoder: LocationEncoder) -> None:
    encoder.network[1] = nn.Tanh()


def shorter(encoder: LocationEncoder) -> None:
    del encoder.network[-1]


def quantised(encoder: LocationEncoder) -> None:
    encoder.network = torch.ao.quantization.quantize_dynamic(encoder.network, {nn.Linear})


def other_forward(encoder: LocationEncoder) -> None:
    encoder.network.forward = lambda x: x.repeat(1, 2)


SPOILED = {
    "half": lambda encoder: encoder.half(),
    "bfloat16": lambda encoder: encoder.bfloat16(),
    "part in float64": halved_and_double,
    "not finite": not_finite,
    "weight_norm": lambda encoder: nn.utils.parametrizations.weight_norm(encoder.network[0]),
    "old weight_norm": lambda encoder: nn.utils.weight_norm(encoder.network[0]),
    "spectral_norm": lambda encoder: nn.utils.parametrizations.spectral_norm(encoder.network[0]),
    "pruned": pruned,
    "quantised": quantised,
    "another activation": other_activation,
    "a layer less": shorter,
    "a layer more": lambda encoder: encoder.network.append(nn.Linear(6, 6)),
    "another forward": other_forward,
    "a hook": lambda encoder: encoder.register_forward_hook(lambda *args: args[-1] * 2),
    "a hook inside": lambda encoder: encoder.network[0].register_forward_pre_hook(
        lambda _, args: (args[0] + 1,)
    ),
    "an origin of tensors": lambda encoder: encoder.origin.update(loss=torch.ones(1)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", SPOILED)
def test_what_load_would_not_give_back_is_not_saved(how: str, saved: Path) -> None:
    spoiled = small()
    SPOILED[how](spoiled)
    with pytest.raises(ValueError, match=r"saved|loaded"):
        spoiled.save(saved)
    assert torch.equal(load(saved)(PLACES), small()(PLACES)), "the old one was lost"
    assert list(saved.parent.iterdir()) == [saved]


def test_the_remedies_of_a_refused_save_work(saved: Path) -> None:
    spoiled = small().half()
    spoiled.float().save(saved)
    assert load(saved)(PLACES).shape == (5, 6)
    nn.utils.parametrizations.weight_norm(spoiled.network[0])
    with pytest.raises(ValueError, match=r"torch\.nn\.utils\.parametrize\.remove_parametrizations"):
        spoiled.save(saved)
    nn.utils.parametrize.remove_parametrizations(spoiled.network[0], "weight")
    spoiled.save(saved)
    assert torch.equal(load(saved)(PLACES), spoiled(PLACES))


def test_what_changes_no_number_is_saved(saved: Path) -> None:
    watched = small(seed=4).train()
    watched.register_forward_hook(lambda *_: None)
    watched.requires_grad_(False).save(saved)
    assert torch.equal(load(saved)(PLACES), watched(PLACES))
    assert watched.training


HOSTILE = {
    "dim": {"dim": 400_000_000},
    "larger dim": {"dim": 10**300},
    "negative dim": {"dim": -6},
    "text for dim": {"dim": "400000000"},
    "truth for dim": {"dim": True},
    "nested dim": {"dim": [[6]]},
    "nested": {"nested": [10**9]},
    "text for nested": {"nested": "2"},
    "a dimension that is not nested": {"readout": 2},
    "layers": {"network_options": {"hidden": 8, "layers": 10**7, "activation": "gelu"}},
    "more layers": {"network_options": {"hidden": 8, "layers": 10**15, "activation": "gelu"}},
    "hidden": {"network_options": {"hidden": 10**9, "layers": 2, "activation": "gelu"}},
    "text for hidden": {"network_options": {"hidden": "x" * 10**6, "layers": 2}},
    "NaN": {"network_options": {"hidden": math.nan}},
    "residual layers": {"network": "residual", "network_options": {"layers": 10**7}},
    "siren layers": {"network": "siren", "network_options": {"layers": 10**7}},
    "w0": {"network": "siren", "network_options": {"hidden": 8, "w0": 1e-320}},
    "w0_first": {"network": "siren", "network_options": {"hidden": 8, "w0_first": 1e300}},
    "degree": {"features": "spherical_harmonics", "feature_options": {"degree": 10**9}},
    "scales": {"features": "grid", "feature_options": {"scales": 10**12}},
    "radius": {"features": "grid", "feature_options": {"min_radius": 1e-320}},
    "frequencies": {"features": "fourier", "feature_options": {"frequencies": 10**10}},
    "sigmas": {"features": "fourier", "feature_options": {"sigmas": [1e-320, [1]]}},
    "many sigmas": {"features": "fourier", "feature_options": {"sigmas": [1.0] * 10**5}},
    "feature's seed": {"features": "fourier", "feature_options": {"seed": 10**40}},
    "seed": {"seed": 10**40},
    "features": {"features": {"xyz": 1}},
    "options": {"feature_options": "degree"},
    "readout": {"readout": ["layers"]},
    "origin": {"origin": []},
    "sha256": {"sha256": 5},
}


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "altered"])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_configuration_is_refused_at_once(what: str, sealed: bool, saved: Path) -> None:
    """Within 200 MB and 5 s of the processor, whether or not its checksum fits."""
    rewrite_config(saved, sealed=sealed, **HOSTILE[what])
    start = time.process_time()
    with a_limit_of_memory(200_000_000), pytest.raises(DataError, match=str(saved)):
        load(saved)
    assert time.process_time() - start < 5


@contextmanager
def a_limit_of_memory(size: int):
    """So much more than the process has mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    "content",
    [
        '{"dim": 6, "dim": 7}',
        '{"origin": {"a": 1, "a": 2}}',
        "[" * 100_000,
        '{"origin": ' + '{"a": ' * 5_000 + "1" + "}" * 5_001,
        '{"dim": ' + "9" * 5_000 + "}",
    ],
    ids=["twice", "twice inside", "unclosed", "deep", "digits"],
)
def test_json_that_can_be_read_two_ways_or_is_too_deep_is_refused(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json is (truncated or )?altered|has format None"):
        load(saved)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_saved_weights_that_are_not_finite_are_named(value: float, saved: Path) -> None:
    state = small().state_dict()
    state["network.2.bias"][3] = value
    rewrite_weights(saved, safetensors.torch.save(state))
    with pytest.raises(DataError, match=r"model\.safetensors.*'network\.2\.bias'.*not finite"):
        load(saved)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_defaults_of_torch_change_nothing(
    dtype: torch.dtype, device: str, saved: Path
) -> None:
    names = ("melt", "best", saved)
    expected = [load(name)(PLACES) for name in names]
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        found = [load(name)(PLACES) for name in names]
        for name in FEATURES:
            assert small(name).device.type == "cpu"
        small().save(saved)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(map(torch.equal, found, expected))
    assert torch.equal(load(saved)(PLACES), expected[2])


def test_loading_and_building_in_threads_disturbs_no_draw_and_gives_one_encoder(saved) -> None:
    torch.manual_seed(0)
    expected, found = torch.cat([torch.rand(50) for _ in range(500)]), []

    def work() -> None:
        for _ in range(5):
            found.append((small(seed=3)(PLACES), load(saved)(PLACES)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    torch.manual_seed(0)
    for thread in threads:
        thread.start()
    drawn = torch.cat([torch.rand(50) for _ in range(500)])
    for thread in threads:
        thread.join()
    assert torch.equal(drawn, expected)
    assert len(found) == 40
    assert all(map(torch.equal, (x for pair in found for x in pair), 40 * found[0]))


def test_an_encoder_is_read_while_another_process_replaces_it(saved: Path) -> None:
    encoders = [small(seed=seed) for seed in range(2)]
    known = [encoder(PLACES) for encoder in encoders]

    def save_on() -> None:
        while True:
            for encoder in encoders:
                encoder.save(saved)

    process = multiprocessing.get_context("fork").Process(target=save_on)
    process.start()
    try:
        inode, replaced = 0, 0
        while replaced < 20:
            embedding = load(saved)(PLACES)
            assert any(torch.equal(embedding, each) for each in known)
            with suppress(FileNotFoundError):  # between the old folder and the new one
                now = saved.stat().st_ino
                replaced += now != inode
                inode = now
    finally:
        process.kill()
        process.join()
    small().save(saved)
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("readout", ["output", "layers"])
def test_many_places_are_embedded_in_little_memory(readout, tensor_sizes, monkeypatch) -> None:
    encoder = small("spherical_harmonics", "siren", readout=readout).eval()
    places = torch.rand(1000, 2) * 90
    expected = encoder(places)
    monkeypatch.setattr("locties.encoder._CHUNK", 64)
    with torch.no_grad(), tensor_sizes() as sizes:
        embedding = encoder(places)
    torch.testing.assert_close(embedding, expected.detach())
    assert max(sizes.bytes) <= max(embedding.nbytes, 2 * 64 * 1600 * 8)
    assert encoder(places).requires_grad, "with gradients, all at once"


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
    monkeypatch.setattr("locties.saved.PUBLISHED", tmp_path)
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


@pytest.mark.parametrize(
    "header",
    [
        (2**60, "{}"),
        (2, "{}"),
        (90, '{"x": {"dtype": "F32", "shape": [100000000000], "data_offsets": [0, 400000000000]}}'),
        (70, '{"x": {"dtype": "F32", "shape": [-1, 5], "data_offsets": [0, 4]}}   '),
        (9, '{"x": NaN'),
    ],
    ids=["long header", "no tensor", "large tensor", "negative shape", "no JSON"],
)
def test_a_hostile_header_of_weights_is_refused_at_once(header: tuple, saved: Path) -> None:
    length, text = header
    rewrite_weights(saved, length.to_bytes(8, "little") + text.encode() + bytes(8))
    with (
        a_limit_of_memory(200_000_000),
        pytest.raises(DataError, match=r"model\.safetensors (is not|does not)"),
    ):
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
        ({"format": 3, "locties": "9.1"}, r"has format 3, written by locties 9.1.*Update locties"),
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


@pytest.mark.parametrize("dim", [np.int64(4), 4.0])
def test_a_nested_dimension_is_a_whole_number_of_any_type(dim, tmp_path):
    encoder = LocationEncoder("xyz", "linear", dim=8, nested=[4], readout=dim)
    encoder.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert (again.readout, again.dim) == (4, 4)
    assert again([[13.4, 52.5], [2.35, 48.86]]).shape == (2, 4)
