import numpy as np
import pytest
import torch

from locties.apply.metadata import takes_month
from locties.encoder import LocationEncoder
from locties.evaluation import Task, evaluate
from locties.evaluation.baselines import BASELINES, Joined, contender
from locties.lonlat import to_xyz

POINTS = torch.tensor([[0.0, 0.0], [90.0, 0.0], [13.4, 52.5]])


@pytest.mark.parametrize(
    ("name", "d"),
    [
        ("constant", 1),
        ("xyz", 3),
        ("harmonics_10", 100),
        ("harmonics_40", 1600),
        ("untrained_default", 256),
        pytest.param("raw", None, marks=pytest.mark.data),
    ],
)
def test_every_baseline_embeds(name, d):
    embedding = BASELINES[name](seed=0)(POINTS)
    assert embedding.shape == (3, d or embedding.shape[1])
    assert torch.isfinite(embedding).all()


@pytest.mark.slow
@pytest.mark.data
def test_only_the_untrained_encoder_depends_on_the_seed():
    for name, factory in BASELINES.items():
        same = torch.equal(factory(seed=0)(POINTS), factory(seed=1)(POINTS))
        assert same == (name != "untrained_default"), name
        assert torch.equal(factory(seed=1)(POINTS), factory(seed=1)(POINTS)), name


def test_distance_between_harmonics_depends_on_the_distance_on_the_sphere_alone():
    """The addition theorem, and so why kNN on harmonics is kNN on xyz."""
    steps = torch.tensor([[0.0, 10.0], [0.0, 20.0], [30.0, 0.0], [40.0, 0.0]])
    embedding = BASELINES["harmonics_10"]()(steps).numpy()
    north, east = (
        np.linalg.norm(embedding[0] - embedding[1]),
        np.linalg.norm(embedding[2] - embedding[3]),
    )
    assert north == pytest.approx(east, rel=1e-5)


def test_both_parts_of_a_joined_encoder_weigh_the_same():
    """Squared distances add up, however long the encoder's own vectors are."""
    points = torch.tensor([[0.0, 0.0], [120.0, 30.0]])
    raw = torch.tensor([[300.0, 400.0], [0.0, 1e-3]])
    unit = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    both = Joined(lambda lonlat: raw, contender("xyz"))(points)
    assert both.shape == (2, 5)
    assert both[:, :2].numpy() == pytest.approx(unit.numpy(), abs=1e-6)
    expected = (unit[0] - unit[1]).norm() ** 2 + (to_xyz(points[0]) - to_xyz(points[1])).norm() ** 2
    assert ((both[0] - both[1]).norm() ** 2).item() == pytest.approx(expected.item(), rel=1e-5)
    harmonics = Joined(lambda lonlat: raw, contender("harmonics_10"))(points)[:, 2:]
    assert harmonics.norm(dim=1).numpy() == pytest.approx(np.ones(2), abs=1e-5)


def test_a_joined_part_whose_length_matters_keeps_it():
    class Long(torch.nn.Module):
        unit_length = False

        def forward(self, lonlat: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.5, 0.0], [3.0, 4.0]])

    both = Joined(Long(), contender("xyz"))(torch.tensor([[0.0, 0.0], [120.0, 30.0]]))
    assert both.norm(dim=1).square().tolist() == pytest.approx([1.25, 26.0], rel=1e-5)


def test_a_joined_encoder_is_evaluated_like_any_other():
    rng = np.random.default_rng(0)
    lonlat = torch.tensor(rng.uniform([-180, -60], [180, 60], (300, 2))).float()
    height = Task("height", lonlat, to_xyz(lonlat)[:, 2])
    blind = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(0.5)).train()
    table = evaluate(Joined(blind, contender("xyz")), height, probes="ridge", labels="all")
    assert (table[table["metric"] == "r2"]["value"] > 0.999).all()
    assert blind.training, "its mode is put back"


def test_contenders_have_names(tmp_path):
    encoder = BASELINES["untrained_default"](seed=3)
    encoder.save(tmp_path / "encoder")
    saved = contender(str(tmp_path / "encoder"))
    assert torch.equal(saved(POINTS), encoder(POINTS))
    assert torch.equal(contender("untrained_default", seed=3)(POINTS), encoder(POINTS))
    assert torch.equal(contender("xyz")(POINTS), to_xyz(POINTS))
    both = contender(f"{tmp_path / 'encoder'}+harmonics_10")
    assert torch.equal(both(POINTS), Joined(encoder, contender("harmonics_10"))(POINTS))


def test_a_contender_can_be_read_from_all_its_layers(tmp_path):
    encoder = BASELINES["untrained_default"](seed=3)
    encoder.save(tmp_path / "encoder")
    embedding = contender(f"{tmp_path / 'encoder'}+layers")(POINTS)
    encoder.readout = "layers"
    assert torch.equal(embedding, encoder(POINTS))


def test_a_contender_can_be_a_nested_dimension(tmp_path):
    encoder = LocationEncoder("xyz", "linear", dim=6, nested=[2, 4])
    encoder.save(tmp_path / "encoder")
    two = contender(f"{tmp_path / 'encoder'}:4+xyz")(POINTS)
    first = torch.nn.functional.normalize(encoder(POINTS)[:, :4], dim=1)
    assert torch.equal(two[:, :4], first)
    with pytest.raises(ValueError, match="3 is not a nested dimension"):
        contender(f"{tmp_path / 'encoder'}:3")


def test_any_contenders_can_be_joined(tmp_path):
    encoder = BASELINES["untrained_default"](seed=3)
    encoder.save(tmp_path / "encoder")
    name = str(tmp_path / "encoder")
    three = contender(f"harmonics_10+{name}+layers+xyz")(POINTS)
    parts = [contender("harmonics_10"), contender(f"{name}+layers"), contender("xyz")]
    expected = [torch.nn.functional.normalize(part(POINTS).float(), dim=1) for part in parts]
    assert torch.equal(three, torch.cat(expected, dim=1))
    nested = Joined(Joined(parts[0], parts[1]), parts[2])
    assert torch.equal(nested(POINTS), three), "each part keeps its weight"


def test_a_folder_whose_name_has_a_plus_is_one_contender(tmp_path):
    encoder = BASELINES["untrained_default"](seed=3)
    encoder.save(tmp_path / "melt+xyz")
    assert torch.equal(contender(str(tmp_path / "melt+xyz"))(POINTS), encoder(POINTS))


def test_a_wrong_contender_is_said():
    with pytest.raises(ValueError, match=r"unknown encoder ''.*best.*folder"):
        contender("xyz+")
    with pytest.raises(ValueError, match="unknown encoder 'layers'"):
        contender("layers+xyz")
    with pytest.raises(ValueError, match="'xyz' has no layers to read"):
        contender("xyz+layers")
    with pytest.raises(ValueError, match="unknown encoder 'xzy': did you mean 'xyz'"):
        contender("untrained_default+xzy")
    with pytest.raises(
        ValueError, match=r"encoder 'harmonic_10': did you mean 'harmonics_10'.*folder"
    ):
        contender("harmonic_10+xyz")
    with pytest.raises(ValueError, match=r"5|int.*'melt'"):
        contender(5)


def test_a_name_with_month_takes_one(tmp_path):
    seasonal = LocationEncoder("xyz", "linear", dim=4, time="month")
    seasonal.save(tmp_path / "seasonal")
    joined = contender(f"{tmp_path / 'seasonal'}+xyz+month")
    embedding = joined(POINTS, torch.full((len(POINTS),), 7))
    assert embedding.shape == (len(POINTS), 4 + 3 + 4)
    parts = torch.nn.functional.normalize(seasonal(POINTS, 7), dim=1)
    torch.testing.assert_close(embedding[:, :4], parts.detach())
    assert takes_month(joined)
    assert not takes_month(contender("xyz+constant"))
