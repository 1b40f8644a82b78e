"""What `pretrain` is given wrongly: a ValueError before any work, with the value and the remedy."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import TINY, a_modality, an_encoder, two_modalities, weights

from locties.modalities import MODALITIES
from locties.modality import Modality
from locties.training import pretrain, settings

WHOLE = "a whole number of at least 1"
SEED = "a whole number from 0"
RATE = "a positive number"
WRONG = [
    ({"pairs": "x"}, "'x'", WHOLE),
    ({"pairs": None}, "None", WHOLE),
    ({"pairs": 0}, "0", WHOLE),
    ({"pairs": 5e3}, r"5000\.0", WHOLE),
    ({"pairs": 128}, "pairs=128 .* epochs=4", "raise pairs to 256"),
    ({"batch": 64.0}, r"64\.0", WHOLE),
    ({"batch": True}, "True", WHOLE),
    ({"batch": -3}, "-3", WHOLE),
    ({"batch": 1}, "1", "at least 2 pairs"),
    ({"batch": 1000, "pairs": 4000}, "1000 .*500 samples of 'a', which has 200", "'fresh'"),
    ({"epochs": 1.5}, r"1\.5", WHOLE),
    ({"epochs": 0}, "0", WHOLE),
    ({"samples": 2.5}, r"2\.5", WHOLE),
    ({"samples": "many"}, "'many'", WHOLE),
    ({"learning_rate": -1}, "-1", RATE),
    ({"learning_rate": 0.0}, r"0\.0", RATE),
    ({"learning_rate": float("nan")}, "nan", RATE),
    ({"learning_rate": float("inf")}, "inf", RATE),
    ({"learning_rate": "1e-3"}, "'1e-3'", RATE),
    ({"learning_rate": True}, "True", RATE),
    ({"learning_rate": None}, "None", RATE),
    ({"seed": None}, "None", SEED),
    ({"seed": -1}, "-1", SEED),
    ({"seed": 0.5}, r"0\.5", SEED),
    ({"seed": "0"}, "'0'", SEED),
    ({"seed": 2**64}, str(2**64), SEED),
    ({"decay": "cosin"}, "'cosin'", "'cosine'"),
    ({"decay": None}, "None", "constant, cosine"),
    ({"locations": "new"}, "'new'", "fixed, fresh"),
    ({"locations": "fresh"}, "'a' has fixed samples", "locations='fixed'"),
    ({"precision": "fp16"}, "'fp16'", "auto, bfloat16, float32"),
    ({"precision": 16}, "16", "auto, bfloat16, float32"),
    ({"device": "gpu"}, "'gpu'", "auto, cpu, cuda"),
    ({"device": None}, "None", "'cpu'"),
    ({"device": 0}, "0", "'cpu'"),
    ({"objective": "ntxent"}, "'ntxent'", "'nt_xent'"),
    ({"objective": None}, "None", "nt_xent"),
    ({"objective": ["nt_xent"]}, "nt_xent", "Known: "),
    ({"objective_options": {"directions": "symmetric"}}, "'directions'", "'direction'"),
    ({"objective_options": {"direction": "sym"}}, "'sym'", "symmetric"),
    ({"objective_options": "symmetric"}, "'symmetric'", "a dict"),
    ({"objective_options": 3}, "3", "a dict"),
    ({"checkpoint": True}, "True", "a folder"),
    ({"after_epoch": "print"}, "'print'", "a function"),
    ({"encoder": "best"}, "'best'", r"locties\.load"),
    ({"encoder": torch.nn.Linear(2, 3)}, "Linear", r"locties\.LocationEncoder"),
    ({"encoder": torch.zeros(2, 2)}, "tensor", r"locties\.LocationEncoder"),
    ({"schedule": "mlet"}, "'mlet'", "'melt'"),
    ({"schedule": None}, "None", "clip, melt, salt"),
    ({"schedule": ["melt"]}, "melt", "clip, melt, salt"),
    ({"schedule": "clip"}, r"2 \(a, b\)", "'melt'"),
    ({"modalities": []}, "no modality", "imagery, rain"),
    ({"modalities": ""}, "''", "imagery"),
    ({"modalities": "imagry"}, "'imagry'", "'imagery'"),
    ({"modalities": ["haze", "imagry"]}, "'imagry'", "'imagery'"),
    ({"modalities": ["haze", None]}, "None", "imagery, rain"),
    ({"modalities": ["haze", 3]}, "3", "imagery, rain"),
    ({"modalities": None}, "None", "a list of names"),
    ({"modalities": 7}, "7", "a list of names"),
    ({"modalities": {"haze"}}, "haze", "a list of names"),
    ({"modalities": {"a": a_modality("a")}}, "'a'", "a list of names"),
    ({"modalities": [pd.DataFrame({"lon": [1]})]}, "lon", "a Modality"),
    ({"modalities": ["haze", "haze"]}, "'haze' is given twice", "once"),
    ({"modalities": [a_modality("a"), a_modality("a")]}, "'a' is given twice", "once"),
]


@pytest.mark.parametrize(("change", "value", "remedy"), WRONG, ids=lambda x: str(x)[:40])
def test_a_wrong_argument_is_named_with_its_remedy(change, value, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"schedule": "melt", "modalities": two_modalities(), "encoder": an_encoder(), **TINY}
    with pytest.raises(ValueError, match=f"(?s){value}.*{remedy}"):
        pretrain(**given | change)
    assert not list(tmp_path.iterdir()), "it has begun to write"


def test_no_gpu_is_said_before_any_work():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=r"'cuda'.*'auto' or 'cpu'"):
        pretrain("clip", [a_modality("a")], an_encoder(), **TINY | {"device": "cuda"})


def test_one_modality_needs_no_list(monkeypatch):
    monkeypatch.setitem(MODALITIES, "a", lambda samples, seed: a_modality("a", seed))
    listed = pretrain("clip", ["a"], an_encoder(), **TINY)
    for alone in ("a", a_modality("a"), iter(["a"])):
        run = pretrain("clip", alone, an_encoder(), **TINY)
        assert run.settings["modalities"] == ["a"]
        assert torch.equal(weights(run.encoder), weights(listed.encoder))


@pytest.mark.parametrize("made", [None, torch.zeros(3), a_modality("b")])
def test_a_factory_returns_a_modality_of_its_name(made, monkeypatch):
    monkeypatch.setitem(MODALITIES, "mine", lambda samples, seed: made)
    with pytest.raises(ValueError, match=r"MODALITIES\['mine'\].*named 'mine'"):
        pretrain("clip", "mine", an_encoder(), **TINY)


def test_numbers_of_numpy_are_numbers(tmp_path):
    numbers = {"pairs": np.int64(512), "batch": np.int32(64), "seed": np.uint8(0)}
    numbers |= {"learning_rate": np.float32(0.003)}
    call = ("clip", a_modality("a"), an_encoder())
    run = pretrain(*call, checkpoint=tmp_path / "state", **TINY | numbers)
    run.save(tmp_path / "run")
    again = pretrain(*call, checkpoint=tmp_path / "state", **TINY | numbers)
    assert torch.equal(weights(run.encoder), weights(again.encoder)), "the state can be read"


def test_options_that_json_does_not_hold_are_saved_by_name(tmp_path, monkeypatch):
    class Named(settings.OBJECTIVES["nt_xent"]):
        def __init__(self, kind=None):
            super().__init__()

    monkeypatch.setitem(settings.OBJECTIVES, "named", Named)
    options = {"objective": "named", "objective_options": {"kind": torch.float32}}
    run = pretrain("clip", a_modality("a"), an_encoder(), **TINY | options)
    run.save(tmp_path)
    assert run.settings["objective_options"] == {"kind": "torch.float32"}


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_on_a_slow_processor_becomes_float32(fast, monkeypatch):
    monkeypatch.setattr(settings, "bfloat16_is_fast", lambda: fast)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = pretrain("clip", a_modality("a"), an_encoder(), precision="bfloat16", **TINY)
        pretrain("clip", a_modality("a"), an_encoder(), **TINY)
    assert run.settings["precision"] == ("bfloat16" if fast else "float32")
    slow = [str(w.message) for w in caught if "bfloat16" in str(w.message)]
    assert len(slow) == (0 if fast else 1)
    assert all("precision='float32'" in message for message in slow)
    assert all(w.filename == __file__ for w in caught if "bfloat16" in str(w.message))


def test_modalities_that_share_cells_are_said():
    a = a_modality("a")
    c = Modality("c", a.lonlat, a.samples, a.encoder)
    with pytest.warns(UserWarning, match=r"'a' and 'c' share \d+ cells.*beside=") as caught:
        pretrain("melt", [a, c], an_encoder(), **TINY)
    assert caught[0].filename == __file__
