"""Location encoders: positional features, then a network; saved and loaded without pickle."""

import copy
import glob
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from locties import __version__
from locties._util.files import UnusableFile, written_aside
from locties._util.making import Making
from locties._util.registry import check_choice, check_counts, check_options, check_seed, unknown
from locties.features import FEATURES
from locties.lonlat import LonLat, check
from locties.networks import NETWORKS, layers

_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "card.md"
PUBLISHED = Path(__file__).parent / "published"
READOUTS = ("output", "layers")
_FORMAT = 1  # raise it when older versions cannot read the folder
# Points at a time without gradients: the default encoder then takes 0.4 GB, plus the result.
_CHUNK = 32_768
_TRIES = 10  # to read a folder that another process replaces
_REPLACED = object()  # the stamp of a folder that a save has moved away
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
        readout: "output" makes the network's output the embedding; "layers" joins the outputs of
            all layers, each after its activation and scaled to length one.

    Example:
        >>> encoder = LocationEncoder(features="xyz", network="linear", dim=4)
        >>> encoder([[13.4, 52.5], [2.35, 48.86]]).shape
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
        readout: str = "output",
    ) -> None:
        super().__init__()
        check_counts(dim=dim)
        check_seed(seed)
        check_choice("readout", readout, READOUTS)
        self.features, self.network, options = _modules(
            Making(int(seed)), features, network, dim, feature_options, network_options
        )
        self.network_dim = int(dim)
        self.readout = readout
        self.origin: dict[str, Any] = {}
        self._config = {
            "features": features,
            "network": network,
            "dim": self.network_dim,
            "seed": int(seed),
            **options,
        }

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, options with their defaults filled in."""
        config: dict[str, Any] = json.loads(json.dumps(self._config))
        return config | {"readout": self.readout}

    @property
    def dim(self) -> int:
        """Length of an embedding; with readout "layers" the sum of the layers' widths."""
        if self.readout == "output":
            return self.network_dim
        with torch.no_grad():
            return copy.deepcopy(self).eval()([[0.0, 0.0]]).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU if there are none."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    if TYPE_CHECKING:

        def __call__(self, lonlat: LonLat) -> Tensor: ...  # nn.Module types it as Any

    def forward(self, lonlat: LonLat) -> Tensor:
        """Embed places, after checking their coordinates.

        Under ``torch.no_grad()``, in eval mode, memory is bounded: 32,768 places are embedded at a
        time. With gradients torch keeps all that ``backward`` needs: 31 MB for 2,048 places of the
        default encoder.

        Args:
            lonlat: (N, 2), longitude then latitude in degrees, as for `locties.lonlat.check`.
                Features are computed from all digits of float64.

        Returns:
            (N, dim) float32, on the encoder's device.
        """
        points = check(lonlat).to(self.device)
        if self.training or torch.is_grad_enabled() or len(points) <= _CHUNK:
            return self.read(self.network, self.features(points))
        embedding = torch.empty(len(points), self.dim, dtype=torch.float32, device=points.device)
        parts = (torch.split(x, _CHUNK) for x in (embedding, points))
        for rows, part in zip(*parts, strict=True):
            rows.copy_(self.read(self.network, self.features(part)))
        return embedding

    def encode(self, lonlat: Tensor) -> Tensor:
        """The network's output (N, network_dim), for checked coordinates (N, 2) on its device.

        For training: the CPU never waits for the GPU.
        """
        output: Tensor = self.network(self.features(lonlat))
        return output

    def read(self, network: nn.Module, x: Tensor) -> Tensor:
        """The embedding that `network` gives for its input x (N, in_dim), by this readout."""
        if self.readout == "output":
            output: Tensor = network(x)
            return output.float()
        return torch.cat([F.normalize(h.float(), dim=1) for h in layers(network, x)], dim=1)

    def save(self, folder: str | os.PathLike[str], card: str = "") -> None:
        """Write ``model.safetensors`` and ``config.json`` into `folder`, which `load` reads.

        The folder appears whole or not at all.

        Args:
            folder: a new folder, or one with an encoder, which is replaced.
            card: Markdown about the encoder, written to ``card.md``; `read_card` reads it.

        Example:
            >>> encoder = LocationEncoder("xyz", "linear", dim=4)
            >>> encoder.save("mine", card="# mine")
            >>> load("mine").config == encoder.config, read_card("mine")
            (True, '# mine')
        """
        target = Path(folder).resolve()
        _check_replaceable(target)
        weights = safetensors.torch.save(_plain(self.state_dict()))
        config = {
            "format": _FORMAT,
            "locties": __version__,
            **self.config,
            "origin": self.origin,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        if card:
            config["card_sha256"] = hashlib.sha256(card.encode()).hexdigest()
        try:
            config["config_sha256"] = _digest(config)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"origin cannot be saved ({error}): pass plain values") from None
        with written_aside(target, folder=True) as aside:
            (aside / _WEIGHTS).write_bytes(weights)
            (aside / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            if card:
                (aside / _CARD).write_bytes(card.encode())
            self._check_saved(aside)

    @torch.no_grad()
    def _check_saved(self, folder: Path) -> None:
        """Raise ValueError if `load` would fail or give a different encoder."""
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
            here, there = copy.deepcopy(self).cpu().eval()(_PROBE), saved(_PROBE)
        if here.shape != there.shape or not torch.allclose(here, there, rtol=1e-4, atol=1e-5):
            raise ValueError(f"this encoder would be loaded as another one: {remedy}")


def load(folder: str | os.PathLike[str]) -> LocationEncoder:
    """Read an encoder that `LocationEncoder.save` wrote. Nothing is unpickled.

    Args:
        folder: the folder with ``model.safetensors`` and ``config.json``, or the name of an encoder
            that comes with locties, such as "melt"; for your own folder of that name, pass "./melt"
            or a `Path`.

    Returns:
        The encoder on the CPU, in eval mode, with bit-identical weights.

    Example:
        >>> load("melt")([[13.4, 52.5], [2.35, 48.86]]).shape
        torch.Size([2, 256])
    """
    for _ in range(_TRIES - 1):
        before = _stamp(folder)
        try:
            return _read_encoder(find_folder(folder))
        except (OSError, ValueError):
            # While another process saves there, we may read files of two encoders, or find none.
            if _stamp(folder) == before != _REPLACED:
                raise
            time.sleep(0.05)
    return _read_encoder(find_folder(folder))


def _read_encoder(path: Path) -> LocationEncoder:
    config = _read_config(path / _CONFIG)
    content = _read(path / _WEIGHTS)
    _check_digest(path / _WEIGHTS, content, config["sha256"])
    try:
        state = safetensors.torch.load(content)
    except SafetensorError as error:
        raise UnusableFile(f"{path / _WEIGHTS} is not a safetensors file: {error}") from error
    if name := _not_finite(state):
        raise UnusableFile(f"{path / _WEIGHTS} holds numbers in {name!r} that are not finite.")
    arguments = {name: config[name] for name in _ARGUMENTS}
    double = bool(state) and all(tensor.dtype == torch.float64 for tensor in state.values())
    try:
        # First without memory: a size that the file lacks is refused before it is allocated.
        _check_fit(_expected(arguments, len(state), double), state, path / _WEIGHTS)
        encoder = LocationEncoder(**arguments)
    except UnusableFile:
        raise
    except (TypeError, ValueError) as error:
        raise UnusableFile(f"{path / _CONFIG} does not describe an encoder: {error}") from error
    if double:
        encoder.double()
    encoder.load_state_dict(state)
    encoder.origin = config.get("origin", {})
    return encoder.eval()


def published() -> list[str]:
    """Names of the encoders that come with locties, sorted."""
    return sorted(entry.name for entry in PUBLISHED.glob("*") if (entry / _CONFIG).is_file())


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a saved encoder, without reading its weights.

    It holds the constructor's arguments, ``origin``, ``sha256`` of the weights, ``config_sha256``
    of everything else, and ``locties``, the version that wrote them.
    """
    return _read_config(find_folder(folder) / _CONFIG)


def read_card(folder: str | os.PathLike[str]) -> str:
    """The model card of a saved encoder, in Markdown: its training, its scores, where it fails."""
    path = find_folder(folder)
    card = _read(path / _CARD)
    _check_digest(path / _CARD, card, _read_config(path / _CONFIG).get("card_sha256"))
    return card.decode()


_ARGUMENTS = tuple(inspect.signature(LocationEncoder).parameters)


def _modules(
    making: Making,
    features: str,
    network: str,
    dim: int,
    feature_options: Mapping[str, Any] | None,
    network_options: Mapping[str, Any] | None,
) -> tuple[nn.Module, nn.Module, dict[str, dict[str, Any]]]:
    """Features and network made within `making`, and the options of both."""
    with making:
        first, feature_options = _build(
            FEATURES[features], feature_options, f"feature {features!r}"
        )
        make_network = partial(NETWORKS[network], first.dim, dim)
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
    features, network, _ = _modules(making, *(arguments[name] for name in names))
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


def find_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a published encoder, or the folder itself; a `Path` is always a folder.

    A published name always means the published encoder, even if there is a folder of that name.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"an encoder is loaded by its name or folder, not from {folder!r}")
    path = Path(folder)
    if path.is_dir() and (isinstance(folder, Path) or str(folder) not in published()):
        return path
    if str(folder) in published():
        return PUBLISHED / str(folder)
    raise FileNotFoundError(
        f"there is no folder {str(folder)!r}; {unknown('published encoder', folder, published())} "
        "Or pass a folder written by LocationEncoder.save."
    )


def _stamp(folder: object) -> object:
    """A value that changes when a save replaces `folder`; `_REPLACED` while it does."""
    if not isinstance(folder, str | os.PathLike):
        return None
    path = Path(folder)
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except OSError:
        asides = path.parent.glob(f".{glob.escape(path.name)}.*.old")
        return _REPLACED if any(asides) else None


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        others = sorted({entry.name for entry in target.iterdir()} - {_WEIGHTS, _CONFIG, _CARD})
        if others:
            raise FileExistsError(
                f"{target} holds other files ({', '.join(others[:3])}): pass a new folder."
            )
    elif target.exists():
        raise FileExistsError(f"{target} is a file: pass a folder.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: {path.parent} is not a complete encoder. Copy or save it again."
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    content = _read(path)
    try:
        config = json.loads(content, object_pairs_hook=_without_repeats)
        found = _digest(config) if isinstance(config, dict) else None
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{path} is truncated or altered: it is not JSON ({error}).") from None
    if not isinstance(config, dict) or not isinstance(config.get("origin", {}), dict):
        raise UnusableFile(f"{path} is altered: it, or its origin, is not a JSON object.")
    if config.get("format") != _FORMAT:
        raise UnusableFile(
            f"{path} has format {config.get('format')!r}, written by locties "
            f"{config.get('locties', 'of unknown version')}; locties {__version__} reads format "
            f"{_FORMAT}. Update locties, or save the encoder again."
        )
    missing = sorted({"locties", "sha256", "config_sha256", *_ARGUMENTS} - config.keys())
    if missing:
        raise UnusableFile(f"{path} lacks {', '.join(missing)}. Copy or save the encoder again.")
    if found != config["config_sha256"]:
        raise UnusableFile(
            f"{path} is altered: the sha256 of its content is {found}, but it says "
            f"{config['config_sha256']}. Copy or save the encoder again."
        )
    return config


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {repeated!r} twice")
    return content


def _digest(config: Mapping[str, Any]) -> str:
    """The sha256 of a configuration without its own checksum, whatever the file's layout."""
    content = {name: value for name, value in config.items() if name != "config_sha256"}
    plain = json.loads(json.dumps(content))  # as a file would return it
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_digest(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UnusableFile(
            f"{path} is truncated or altered: its sha256 is {found}, but {_CONFIG} says "
            f"{expected}. Copy or save the encoder again."
        )


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state on the CPU. ValueError unless all of it is finite float32, or finite float64."""
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{others[0]} is not a tensor, so this encoder cannot be saved")
    kinds = {value.dtype for value in state.values()}
    if not (kinds <= {torch.float32} or kinds == {torch.float64}):
        raise ValueError(
            f"the weights are {', '.join(sorted(map(str, kinds)))}, which cannot be saved: call "
            "encoder.float() or encoder.double() first."
        )
    if name := _not_finite(state):
        raise ValueError(f"weight {name!r} is not finite, so this encoder cannot be saved")
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or an infinite number."""
    return next((name for name, x in state.items() if not x.isfinite().all()), None)


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    for name in sorted(wanted.keys() | given.keys()):
        there, here = _describe(given.get(name)), _describe(wanted.get(name))
        if there != here:
            raise UnusableFile(
                f"{path} does not fit its {_CONFIG}: tensor {name!r} is {there}, expected {here}."
            )


def _describe(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
