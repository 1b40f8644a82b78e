"""Location encoders: positional features, then a network; saved and loaded without pickle."""

import copy
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties import month as months
from locties._util import int8, onnx
from locties._util.files import UnusableFile, written_aside
from locties._util.making import Making
from locties._util.registry import check_choice, check_counts, check_options, check_seed
from locties.features import FEATURES, EqualEarthFourier
from locties.lonlat import LonLat, check, nan_if_wrong
from locties.networks import NETWORKS, layers
from locties.saved import (
    ARGUMENTS,
    CONFIG,
    OPTIONAL,
    REPLACED,
    check_fit,
    check_replaceable,
    contents,
    find_folder,
    read_config_in,
    read_state,
    split_dim,
    stamp,
)

READOUTS = ("output", "layers")
TIMES = ("month",)
# Points at a time without gradients: the default encoder then takes 0.4 GB, plus the result.
_CHUNK = 32_768
_TRIES = 10  # to read a folder that another process replaces
_PROBE = [(0.0, 0.0), (13.4, 52.5), (-70.7, -33.5), (179.9, -89.0)]  # lonlat, to compare encoders


class LocationEncoder(nn.Module):
    """Maps places to embeddings: positional features without weights, then a network.

    Embeddings are not normalised; objectives and nearest neighbours do that themselves.

    The last layers lose what training does not need, such as slow changes over whole continents. So
    an embedding can also be read from all layers. `origin` says where the weights come from, in
    plain values that are saved with them.

    Args:
        features: a name in `locties.FEATURES`.
        network: a name in `locties.NETWORKS`.
        dim: length of the network's output (`network_dim`).
        feature_options: keywords of the feature, e.g. ``{"degree": 10}``.
        network_options: keywords of the network, e.g. ``{"hidden": 256}``.
        seed: determines the initial weights; the global random state is neither read nor changed.
        readout: what the embedding is. "output": the output of the network. "layers": the outputs
            of all layers side by side, each after its activation and scaled to length one. A number
            in `nested`, such as 16: the first 16 numbers of the output. You can also set it later.
        nested: smaller dimensions than `dim`, in rising order, such as (16, 64). `locties.pretrain`
            then trains the first 16 and the first 64 numbers to be embeddings by themselves.
        time: None, or "month" for an encoder of places in a month. `locties.month.cyclic` of the
            month then joins the positional features.

    Example:
        >>> encoder = LocationEncoder(features="xyz", network="linear", dim=4)
        >>> encoder([[13.4, 52.5], [2.35, 48.86]]).shape
        torch.Size([2, 4])
        >>> seasonal = LocationEncoder(features="xyz", network="mlp", dim=4, time="month")
        >>> seasonal([[13.4, 52.5], [2.35, 48.86]], month=[1, 7]).shape
        torch.Size([2, 4])

    Source: Russwurm et al. (ICLR 2024, arXiv 2310.06743); the default sizes are those of the
    released SatCLIP.
    """

    def __init__(
        self,
        features: str = "spherical_harmonics",
        network: str = "siren",
        dim: int = 256,
        feature_options: Mapping[str, Any] | None = None,
        network_options: Mapping[str, Any] | None = None,
        seed: int = 0,
        readout: str | int = "output",
        time: str | None = None,
        nested: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_counts(dim=dim)
        check_seed(seed)
        if time is not None:
            check_choice("time", time, TIMES)
        self.nested = _checked_nested(nested, dim)
        self.readout = readout
        self.features, self.network, options = _modules(
            Making(int(seed)), features, network, dim, feature_options, network_options, time
        )
        self.time = time
        self.month: int | None = None  # set by `in_month`
        self.network_dim = int(dim)
        self.origin: dict[str, Any] = {}
        self._config = {
            "features": features,
            "network": network,
            "dim": self.network_dim,
            "seed": int(seed),
            **options,
        }
        if time is not None:
            self._config["time"] = time
        if self.nested:
            self._config["nested"] = self.nested

    @property
    def readout(self) -> str | int:
        """What an embedding is: "output", "layers", or one of the `nested` dimensions."""
        return self._readout

    @readout.setter
    def readout(self, readout: str | int) -> None:
        if isinstance(readout, str):
            check_choice("readout", readout, READOUTS)
        elif isinstance(readout, bool) or readout not in self.nested:
            known = ", ".join(map(str, self.nested)) or "none: it was made without nested=[...]"
            raise ValueError(
                f"readout={readout!r} is not a nested dimension of this encoder ({known}): pass "
                "one of them, 'output' or 'layers'"
            )
        self._readout = readout if isinstance(readout, str) else int(readout)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, options with their defaults filled in."""
        config: dict[str, Any] = json.loads(json.dumps(self._config))
        return config | {"readout": self.readout}

    @property
    def dim(self) -> int:
        """Length of an embedding; with readout "layers" the sum of the layers' widths."""
        if isinstance(self.readout, int):
            return self.readout
        if self.readout == "output":
            return self.network_dim
        with torch.no_grad():
            return copy.deepcopy(self).eval()([[0.0, 0.0]], self._any_month).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU if there are none."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    if TYPE_CHECKING:
        # nn.Module types it as Any
        def __call__(self, lonlat: LonLat, month: Any = None) -> Tensor: ...

    def forward(self, lonlat: LonLat, month: Any = None) -> Tensor:
        """Embed places, after checking their coordinates.

        Under ``torch.no_grad()``, in eval mode, memory is bounded: 32,768 places are embedded at a
        time. With gradients torch keeps all that ``backward`` needs: 31 MB for 2,048 places of the
        default encoder.

        Args:
            lonlat: (N, 2), longitude then latitude in degrees, as for `locties.lonlat.check`.
                Features are computed from all digits of float64.
            month: for an encoder with a `time`, one month or (N,), as for `locties.month.check`.

        Returns:
            (N, dim) float32, on the encoder's device.
        """
        exporting = torch.compiler.is_exporting()
        points = (nan_if_wrong(lonlat) if exporting else check(lonlat)).to(self.device)
        month = self._checked_month(month, points)
        if exporting or self.training or torch.is_grad_enabled() or len(points) <= _CHUNK:
            return self.read(self.network, self._inputs(points, month))
        embedding = torch.empty(len(points), self.dim, dtype=torch.float32, device=points.device)
        for start in range(0, len(points), _CHUNK):
            rows = slice(start, start + _CHUNK)
            inputs = self._inputs(points[rows], None if month is None else month[rows])
            embedding[rows] = self.read(self.network, inputs)
        return embedding

    def encode(self, lonlat: Tensor, month: Tensor | None = None) -> Tensor:
        """The network's output (N, network_dim), for checked coordinates (N, 2) on its device.

        `month` (N,) int64 is needed if the encoder has a `time`. For training: the CPU never waits
        for the GPU.
        """
        output: Tensor = self.network(self._inputs(lonlat, month))
        return output

    def in_month(self, month: int) -> "LocationEncoder":
        """This encoder in one month, as a function of the place alone; the weights are shared.

        Example:
            >>> seasonal = LocationEncoder("xyz", "mlp", dim=4, time="month")
            >>> july = seasonal.in_month(7)
            >>> july([[13.4, 52.5]]).equal(seasonal([[13.4, 52.5]], month=7))
            True
        """
        fixed = copy.copy(self)
        fixed.month = int(self._checked_month(month, torch.zeros(1, 2))[0])  # type: ignore[index]
        return fixed

    @property
    def _any_month(self) -> int | None:
        """A month with which this encoder can be tried; None if it takes none."""
        return None if self.time is None else 1

    def _checked_month(self, month: Any, points: Tensor) -> Tensor | None:
        """The month (N,) of each of the points; ValueError if one is missing, or is too much."""
        if self.time is None:
            if month is None:
                return None
            raise ValueError(
                f"this encoder takes no month, and month is {month!r}: leave the month out, or "
                "train a LocationEncoder(..., time='month')"
            )
        month = self.month if month is None else month
        if month is None:
            raise ValueError(
                "this encoder takes a month beside each place, and month is None: pass month=7, or "
                "any of 1 to 12, or give encoder.in_month(7) in place of the encoder"
            )
        if torch.compiler.is_exporting() and month == self.month:  # `in_month` has checked it
            return torch.full_like(points[:, 0], month, dtype=torch.int64)
        return months.check(month, len(points)).to(points.device)

    def _inputs(self, lonlat: Tensor, month: Tensor | None) -> Tensor:
        """The network's input (N, in_dim): positional features, then those of the month."""
        features: Tensor = self.features(lonlat)
        if month is not None:
            features = torch.cat([features, months.cyclic(month).to(features)], dim=1)
        weight = next(self.network.parameters(), features)
        return features.to(weight.dtype)

    def read(self, network: nn.Module, x: Tensor) -> Tensor:
        """The embedding that `network` gives for its input x (N, in_dim), by this readout."""
        if self.readout == "layers":
            return torch.cat([F.normalize(h.float(), dim=1) for h in layers(network, x)], dim=1)
        output: Tensor = network(x)
        return (output if self.readout == "output" else output[:, : self.readout]).float()

    def save(
        self, folder: str | os.PathLike[str], card: str = "", *, as_int8: bool = False
    ) -> None:
        """Write ``model.safetensors`` and ``config.json`` into `folder`, which `load` reads.

        The folder appears whole or not at all.

        Args:
            folder: a new folder, or one with an encoder, which is replaced.
            card: Markdown about the encoder, written to ``card.md``; `read_card` reads it.
            as_int8: write the matrices of weights as int8, in about a quarter of the bytes. `load`
                makes float32 of them again; each is off by at most 0.4% of the largest among 64
                neighbours.

        Example:
            >>> encoder = LocationEncoder("xyz", "linear", dim=4)
            >>> encoder.save("mine", card="# mine")
            >>> load("mine").config == encoder.config
            True
        """
        if self.month is not None:
            raise ValueError(
                f"this encoder is fixed in month {self.month}, and a folder keeps no month: save "
                f"the encoder that takes one, and fix it again with load(folder).in_month("
                f"{self.month})"
            )
        target = Path(folder).resolve()
        check_replaceable(target)
        state = self.state_dict()
        # Vectors take few bytes, and frequencies of features, which are buffers, all their digits.
        matrices = [name for name, x in self.named_parameters() if x.ndim > 1 and as_int8]
        files = contents(state, self.config, self.origin, card, matrices)
        with written_aside(target, folder=True) as aside:
            for name, content in files.items():
                (aside / name).write_bytes(content)
            self._check_saved(aside, int8.unpack(int8.pack(state, matrices)))

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the encoder as an ONNX graph, for use without torch.

        Its input "lonlat" is (N, 2) float64, its output "embedding" (N, dim) float32. The graph
        wraps longitudes as `forward` does. It cannot raise, so it gives NaN for a place that
        `forward` refuses. Needs the extra "onnx".

        Raises:
            ValueError: the encoder takes a month, or a part of it has no form in ONNX.

        Example:
            >>> load("melt").to_onnx("melt.onnx")  # doctest: +SKIP
        """
        if isinstance(self.features, EqualEarthFourier):
            raise ValueError(
                "features='equal_earth_fourier' cannot be written as ONNX, whose runtime has no "
                "arcsine in float64: use torch.export.export, or train with features='fourier'"
            )
        if self.time is not None and self.month is None:
            raise ValueError(
                "this encoder takes a month, but an ONNX graph here has places as its only input: "
                "write one graph for each month, as in encoder.in_month(7).to_onnx('july.onnx')"
            )
        places = torch.tensor(_PROBE, dtype=torch.float64)
        encoder = copy.deepcopy(self).cpu().eval().requires_grad_(False)
        onnx.export(encoder, places, Path(path), ("lonlat", "embedding"))

    @torch.no_grad()
    def _check_saved(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Raise ValueError if `load` would fail or not give this encoder with this state."""
        remedy = (
            "only weights, names and options are saved. Remove hooks, restore replaced or "
            "quantised layers, and call torch.nn.utils.parametrize.remove_parametrizations on "
            "normalised ones"
        )
        try:
            saved = _read_encoder(folder)
        except ValueError as error:
            raise ValueError(f"this encoder cannot be saved ({error}): {remedy}") from None
        with torch.autocast("cpu", enabled=False):
            month = self._any_month
            expected = copy.deepcopy(self).cpu().eval()
            expected.load_state_dict(state)
            here, there = expected(_PROBE, month), saved(_PROBE, month)
        if here.shape != there.shape or not torch.allclose(here, there, rtol=1e-4, atol=1e-5):
            raise ValueError(f"this encoder would be loaded as another one: {remedy}")


def load(folder: str | os.PathLike[str]) -> LocationEncoder:
    """Read an encoder that `LocationEncoder.save` wrote. Nothing is unpickled.

    Args:
        folder: the folder with ``model.safetensors`` and ``config.json``, or the name of an encoder
            that comes with locties, such as "melt"; for your own folder of that name, pass "./melt"
            or a `Path`. ":64" at the end of a name or folder, as in "mine:64", sets the readout to
            the nested dimension 64.

    Returns:
        The encoder on the CPU, in eval mode, with bit-identical weights.

    Example:
        >>> load("melt")([[13.4, 52.5], [2.35, 48.86]]).shape
        torch.Size([2, 256])
    """
    name, dim = split_dim(folder)
    encoder = _read_whole(name)
    if dim is not None:
        encoder.readout = dim
    return encoder


def _read_whole(folder: str | os.PathLike[str]) -> LocationEncoder:
    """Read an encoder, even while another process replaces it."""
    for _ in range(_TRIES - 1):
        before = stamp(folder)
        try:
            return _read_encoder(find_folder(folder))
        except (OSError, ValueError):
            # While another process saves there, we may read files of two encoders, or find none.
            if stamp(folder) == before != REPLACED:
                raise
            time.sleep(0.05)
    return _read_encoder(find_folder(folder))


def _read_encoder(path: Path) -> LocationEncoder:
    config = read_config_in(path)
    state = read_state(path, config["sha256"])
    arguments = {name: config[name] for name in [*ARGUMENTS, *OPTIONAL] if name in config}
    double = bool(state) and all(tensor.dtype == torch.float64 for tensor in state.values())
    try:
        # First without memory: a size that the file lacks is refused before it is allocated.
        check_fit(_expected(arguments, len(state), double), state, path)
        encoder = LocationEncoder(**arguments)
    except UnusableFile:
        raise
    except (TypeError, ValueError) as error:
        raise UnusableFile(f"{path / CONFIG} does not describe an encoder: {error}") from error
    if double:
        encoder.double()
    encoder.load_state_dict(state)
    encoder.origin = config.get("origin", {})
    return encoder.eval()


def _checked_nested(nested: Sequence[int], dim: int) -> list[int]:
    """The nested dimensions as plain numbers; ValueError unless they rise and stay below `dim`."""
    if isinstance(nested, str) or not isinstance(nested, Sequence):
        raise ValueError(f"nested={nested!r}: pass a list of dimensions, such as [16, 64]")
    for value in nested:
        check_counts(nested=value)
    if any(a >= b for a, b in pairwise([*nested, dim])):
        raise ValueError(
            f"nested={list(nested)!r} with dim={dim}: pass dimensions in rising order, each "
            f"smaller than {dim}"
        )
    return [int(value) for value in nested]


def _modules(
    making: Making,
    features: str,
    network: str,
    dim: int,
    feature_options: Mapping[str, Any] | None,
    network_options: Mapping[str, Any] | None,
    time: str | None = None,
) -> tuple[nn.Module, nn.Module, dict[str, dict[str, Any]]]:
    """Features and network made within `making`, and the options of both."""
    with making:
        first, feature_options = _build(
            FEATURES[features], feature_options, f"feature {features!r}"
        )
        in_dim = first.dim + (0 if time is None else months.DIM)
        make_network = partial(NETWORKS[network], in_dim, dim)
        then, network_options = _build(make_network, network_options, f"network {network!r}")
    return first, then, {"feature_options": feature_options, "network_options": network_options}


def _expected(arguments: Mapping[str, Any], tensors: int, double: bool) -> dict[str, Tensor]:
    """The state of an encoder with these arguments, as tensors that take no memory.

    `tensors` is their number in the file. A module makes a few more while it is built; many more
    are refused.
    """
    check_counts(dim=arguments["dim"])
    names = ("features", "network", "dim", "feature_options", "network_options")
    making = Making(0, "meta", most=4 * tensors + 100)
    given = {name: arguments[name] for name in names} | {"time": arguments.get("time")}
    features, network, _ = _modules(making, **given)
    modules = nn.ModuleDict({"features": features, "network": network})
    return (modules.double() if double else modules).state_dict()


def _build(
    make: Callable[..., Any], options: Mapping[str, Any] | None, what: str
) -> tuple[Any, dict[str, Any]]:
    """``make(**options)``, and the options as plain values with every default filled in."""
    options = options or {}
    check_options(make, options, what)
    # Defaults may change from version to version; a saved encoder must not.
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.default is not parameter.empty
    }
    try:
        plain = json.loads(json.dumps({**defaults, **options}, allow_nan=False))
        return make(**plain), plain
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"options of {what} do not fit: {error}") from error
