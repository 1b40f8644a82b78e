"""A folder of features: its index, and samples that stay in the file."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from s2_files import write_index

from locties import user_data
from locties.data import frozen_folder, sampling
from locties.data.frozen import features
from locties.data.frozen_encoders import FrozenEncoder
from locties.data.frozen_folder import make_index, read_features, read_index
from locties.data.manifest import DataError
from locties.data.texts import Texts

pytestmark = pytest.mark.filterwarnings("ignore:modality")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features of 60 texts: 30 in imagery's cells, 15 in validation's, 15 in others'."""
    points = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 100 - 50
    owners = sampling.owner(points)
    imagery = sampling.OWNERS.index("imagery")
    other = (owners != imagery) & (owners != sampling.VALIDATION)
    kinds = [(owners == imagery, 30), (owners == sampling.VALIDATION, 15), (other, 15)]
    lon, lat = torch.cat([points[kind][:n] for kind, n in kinds]).T.tolist()
    texts = Texts({"text": [f"text {i}" for i in range(60)], "lon": lon, "lat": lat})

    def compute(batch):
        numbers = [int(text.split()[1]) for text in batch]
        rows = [np.random.default_rng(i).normal(i, 1, 5) for i in numbers]
        rows = np.array(rows, np.float32)
        rows[[i == 3 for i in numbers]] = np.inf
        return rows

    encoder = FrozenEncoder("mine", "1", "0" * 64, "texts", 5, "cpu", compute)
    out = tmp_path_factory.mktemp("features") / "out"
    features(texts, encoder, out, batch=16, progress=False)
    return out


OTHERS = [name for name in sampling.OWNERS if name != "imagery"]


def modality(folder, **options):
    """The features in imagery's cells."""
    return user_data.read_modality(folder, name="chips", beside=OTHERS, **options)


@pytest.mark.filterwarnings("error")
def test_features_become_a_modality_in_free_cells_validated_on_whole_blocks(folder):
    made = modality(folder)
    assert made.name == "chips"
    assert len(made.samples) == len(made.lonlat) == 29  # one is not finite
    assert (sampling.owner(made.lonlat) == sampling.OWNERS.index("imagery")).all()
    assert len(made.validation.samples) == 15
    assert (sampling.owner(made.validation.lonlat) == sampling.VALIDATION).all()
    index, computed = read_features(folder)
    samples = made.samples[torch.arange(29)]
    for lonlat, sample in zip(made.lonlat, samples, strict=True):
        row = (index.lonlat.float() == lonlat).all(1).nonzero().item()
        assert torch.equal(sample, computed[row])
    encoder = made.encoder(8)
    assert encoder(samples).shape == (29, 8)
    torch.testing.assert_close(encoder[0](samples).mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_features_of_another_encoder_are_refused(tmp_path):
    texts = Texts({"text": ["a", "bb"], "lon": [1, 2], "lat": [3, 4]})
    for name, sign in (("one", 1), ("other", -1)):

        def compute(batch, sign=sign):
            return np.array([[sign * len(each)] for each in batch], np.float32)

        encoder = FrozenEncoder(name, "", name, "texts", 1, "cpu", compute)
        features(texts, encoder, tmp_path / name, progress=False)
    assert read_features(tmp_path / "other")[1].tolist() == [[-1], [-2]]
    (tmp_path / "other" / "features.npy").replace(tmp_path / "one" / "features.npy")
    with pytest.raises(DataError, match=r"features.npy is altered, or not by one, .*; delete"):
        read_features(tmp_path / "one")


def test_the_draw_depends_on_the_seed(folder):
    a, b, c = (modality(folder, samples=10, seed=seed, validation=4) for seed in (0, 0, 1))
    assert (len(a.samples), len(a.validation.samples)) == (10, 4)
    assert torch.equal(a.lonlat, b.lonlat)
    assert not torch.equal(a.lonlat, c.lonlat)


@pytest.mark.parametrize("option", [{"columns": ["a"]}, {"bands": [1]}, {"lon": "x"}])
def test_options_of_tables_and_rasters_are_refused(folder, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}=.*leave it out"):
        modality(folder, **option)


def test_a_folder_without_features_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match=r"holds no features; run: locties features chips\|photos"):
        modality(tmp_path)


def test_fresh_places_come_from_the_same_cells_with_their_own_samples(folder):
    made = modality(folder, samples=5)
    lonlat, samples = made.fresh(100, torch.Generator().manual_seed(0))
    assert (sampling.owner(lonlat) == sampling.OWNERS.index("imagery")).all()
    assert len(lonlat.unique(dim=0)) > 5
    index, computed = read_features(folder)
    row = (index.lonlat.float() == lonlat[7]).all(1).nonzero().item()
    assert torch.equal(samples[7], computed[row])


def test_the_file_is_not_copied_into_memory(folder):
    made = modality(folder).to(torch.device("cpu"))
    assert made.samples.array.data_ptr() == made.validation.samples.array.data_ptr()
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        begins = {
            int(line.split("-")[0], 16): line
            for line in mapped.read_text().splitlines()
            if line.endswith(str(folder / "features.npy"))
        }
        assert any(0 <= made.samples.array.data_ptr() - begin < 4096 for begin in begins)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be asked")
def test_the_rows_of_a_batch_are_asked_for_where_they_lie(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(frozen_folder, "WHOLE", 0)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *where: asked.append(where))
    made = modality(folder)
    index = torch.tensor([20, 3, 7])
    asked.clear()
    samples = made.samples[index]
    content = (folder / "features.npy").read_bytes()
    there = [np.frombuffer(content[at : at + size], np.float32) for at, size, _ in asked]
    assert torch.equal(torch.from_numpy(np.stack(there)), samples)
    assert {advice for *_, advice in asked} == {os.POSIX_FADV_WILLNEED}


@pytest.mark.filterwarnings("ignore:modalities 'a' and 'b' share")
@pytest.mark.parametrize(("schedule", "names"), [("clip", "a"), ("melt", "ab"), ("salt", "ab")])
def test_training_asks_for_each_batch_once_and_a_step_ahead(folder, monkeypatch, schedule, names):
    """The first is asked for when it is read, every other before the step before it is computed."""
    from locties import LocationEncoder, pretrain

    happened = []
    monkeypatch.setattr(frozen_folder, "WHOLE", 0)
    ask, encode = frozen_folder.prefetch, LocationEncoder.encode
    monkeypatch.setattr(
        frozen_folder, "prefetch", lambda *args: (happened.append(len(args[2])), ask(*args))
    )
    monkeypatch.setattr(
        LocationEncoder, "encode", lambda *args: (happened.append("step"), encode(*args))[1]
    )
    made = [replace(modality(folder), name=name, validation=None) for name in names]
    happened.clear()
    options = {"pairs": 32, "batch": 8, "epochs": 2, "device": "cpu", "progress": False}
    pretrain(schedule, made, LocationEncoder("xyz", "linear", 8), **options)
    steps = [each for each in happened if each != 29]  # all of them are read for their hash
    batch = [4, 4] if schedule == "melt" else [8]
    ahead = [*batch, "step"]
    assert steps == [*batch, *ahead, *ahead, *ahead, "step"]


def test_a_batch_that_comes_otherwise_than_expected_is_asked_for_again(folder, monkeypatch):
    monkeypatch.setattr(frozen_folder, "WHOLE", 0)
    made, asked = modality(folder).samples, []
    monkeypatch.setattr(frozen_folder, "prefetch", lambda *args: asked.append(args[2]))
    made.expect(torch.tensor([1, 2]))
    assert torch.equal(made[torch.tensor([1, 2])], made.array[asked[0]])
    assert len(asked) == 1
    made.expect(torch.tensor([1, 2]))
    made[torch.tensor([4, 5])]
    assert len(asked) == 3
    made[torch.tensor([2])]
    assert len(asked) == 3, "a part of what was expected"


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be asked")
def test_a_small_file_is_asked_for_once_as_a_whole(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *where: asked.append(where))
    made = modality(folder).samples
    asked.clear()
    made = replace(made)  # as if nothing had been read
    for index in ([1, 2], [3, 4]):
        made.expect(torch.tensor(index))
        assert torch.equal(made[torch.tensor(index)], made.array[made.rows[made.index[index]]])
    assert asked == [(0, 0, os.POSIX_FADV_WILLNEED)]


@pytest.mark.data
def test_pretraining_reads_the_features(folder, earth):
    from locties import LocationEncoder, pretrain

    encoder = LocationEncoder("xyz", "mlp", 8, network_options={"hidden": 16})
    options = {"pairs": 64, "batch": 16, "epochs": 2, "samples": 64, "progress": False}
    made = pretrain("melt", [modality(folder), "rain"], encoder, device="cpu", **options)
    history = made.history.query("modality == 'chips'")
    assert history["validation_loss"].notna().all()
    assert len(history) == 2


# ---------------------------------------------------------------------------------------- index


def test_index_gives_longitude_first(tmp_path):
    index = read_index(write_index(tmp_path / "index.csv", {"a.tif": (13.4, 52.5)}))
    assert index.names == ("a.tif",)
    assert index.lonlat.tolist() == [[13.4, 52.5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fn,lat\na.tif,1\n", "has no column lon"),
        ("", "has no column fn, lat, lon"),
        ("fn,lon,lat\n", "names nothing"),
        ("fn,lon,lat\na,1,2\nb,1,north\n", "line 3 has lon '1' and lat 'north'"),
        ("fn,lon,lat\na,1,2\nb,1\n", "line 3 has lon '1' and lat None"),
        ("fn,lon,lat\na,12,100\n", "line 2 has lon '12' and lat '100'"),
        ("fn,lon,lat\na,1,2\na,3,4\n", "line 3 has the name 'a', as does line 2"),
        ("fn,lon,lat\n\xff", "is not a CSV file"),
    ],
)
def test_a_damaged_index_names_the_line(tmp_path, text, message):
    (tmp_path / "index.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_index(tmp_path / "index.csv")


def test_an_index_that_is_made_is_read_again(tmp_path):
    names = ["a b.jpg", 'quo"te, comma.jpg', "Größe/日本.jpg"]
    made = make_index(
        names, np.array([[13.4, 52.5], [-0.1, 1e-7], [179.99999999, -90]]), bytes=[1, 2, 3]
    )
    (tmp_path / "index.csv").write_bytes(made.content)
    read = read_index(tmp_path / "index.csv")
    assert read.names == made.names == tuple(names)
    assert torch.equal(read.lonlat, made.lonlat)
    assert read.sha256 == made.sha256
