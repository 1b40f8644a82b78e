"""Location encoders: positional features, then a network; saved and loaded without pickle."""

import contextlib
import copy
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from locties import __version__
from locties._util.files import written_aside
from locties._util.registry import check_counts, check_options, unknown
from locties.features import FEATURES
from locties.lonlat import LonLat, check
from locties.networks import NETWORKS, layers

_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "card.md"
PUBLISHED = Path(__file__).parent / "published"
READOUTS = ("output", "layers")
_FORMAT = 1  # raised when an older locties could not read the folder


class LocationEncoder(nn.Module):
    """Maps places to embeddings: positional features without weights, then a network.

    Embeddings are not normalised; objectives and nearest neighbours do that themselves.

    What training does not need, such as slow changes over whole continents, is lost in the last
    layers first, so an embedding can also be read from all layers. `origin` says where the weights
    come from, in plain values that are saved with them.

    Args:
        features: a name in `locties.FEATURES`.
        network: a name in `locties.NETWORKS`.
        dim: length of the network's output (`network_dim`).
        feature_options: keywords of the feature, e.g. ``{"degree": 10}``.
        network_options: keywords of the network, e.g. ``{"hidden": 256}``.
        seed: of the initial weights; the global random state is neither read nor changed.
        readout: what an embedding is: the network's "output", or the outputs of all its "layers"
            (each with its activation, as a unit vector), one after the other.

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
        if readout not in READOUTS:
            raise unknown("readout", readout, READOUTS)
        make_features = FEATURES[features]
        with _seeded(seed):
            self.features, feature_options = _build(
                make_features, feature_options, f"feature {features!r}"
            )
            make_network = partial(NETWORKS[network], self.features.dim, dim)
            self.network, network_options = _build(
                make_network, network_options, f"network {network!r}"
            )
        self.network_dim = int(dim)
        self.readout = readout
        self.origin: dict[str, Any] = {}
        self._config = {
            "features": features,
            "feature_options": feature_options,
            "network": network,
            "network_options": network_options,
            "dim": self.network_dim,
            "seed": int(seed),
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

        def __call__(self, lonlat: LonLat) -> Tensor: ...  # by nn.Module, which says Any

    def forward(self, lonlat: LonLat) -> Tensor:
        """Embed places, after checking their coordinates.

        Args:
            lonlat: (N, 2), longitude then latitude in degrees, as `locties.lonlat.check` takes it.
                float64 keeps its digits into the features.

        Returns:
            (N, dim) float32, on the encoder's device.
        """
        points = check(lonlat).to(self.device)
        if self.readout == "output":
            return self.encode(points).float()
        return self.read(self.network, self.features(points))

    def encode(self, lonlat: Tensor) -> Tensor:
        """The network's output (N, network_dim), for checked coordinates (N, 2) on its device.

        For training: the host never waits for the device.
        """
        output: Tensor = self.network(self.features(lonlat))
        return output

    def read(self, network: nn.Module, x: Tensor) -> Tensor:
        """The embedding of a network's input x (N, in_dim), by this encoder's readout."""
        if self.readout == "output":
            output: Tensor = network(x)
            return output.float()
        return torch.cat([F.normalize(h.float(), dim=1) for h in layers(network, x)], dim=1)

    def save(self, folder: str | os.PathLike[str], card: str = "") -> None:
        """Write ``model.safetensors`` and ``config.json`` into `folder`, which `load` reads.

        The folder appears whole or not at all. An encoder that is already there is replaced.

        Args:
            folder: a new one, or that of an encoder.
            card: Markdown about the encoder, written beside as ``card.md``; `read_card` reads it.

        Example:
            >>> encoder = LocationEncoder("xyz", "linear", dim=4)
            >>> encoder.save("mine", card="# mine")
            >>> load("mine").config == encoder.config, read_card("mine")
            (True, '# mine')
        """
        target = Path(folder).resolve()
        _check_replaceable(target)
        state = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        kinds = {value.dtype for value in state.values()}
        if not (kinds <= {torch.float32} or kinds == {torch.float64}):
            raise ValueError(
                f"the weights are {', '.join(map(str, kinds))}, which cannot be saved: call "
                "encoder.float() or encoder.double() first."
            )
        weights = safetensors.torch.save(state)
        config = {
            "format": _FORMAT,
            "locties": __version__,
            **self.config,
            "origin": self.origin,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        if card:
            config["card_sha256"] = hashlib.sha256(card.encode()).hexdigest()
        config["config_sha256"] = _digest(config)
        with written_aside(target, folder=True) as aside:
            (aside / _WEIGHTS).write_bytes(weights)
            (aside / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            if card:
                (aside / _CARD).write_bytes(card.encode())


def load(folder: str | os.PathLike[str]) -> LocationEncoder:
    """Read an encoder that `LocationEncoder.save` wrote. Nothing is unpickled.

    Args:
        folder: the folder with ``model.safetensors`` and ``config.json``, or the name of an
            encoder that comes with locties, such as "melt"; a folder of your own that has such a
            name is "./melt", or a `Path`.

    Returns:
        The encoder on the CPU, in eval mode, with bit-identical weights.

    Example:
        >>> load("melt")([[13.4, 52.5], [2.35, 48.86]]).shape
        torch.Size([2, 256])
    """
    path = _find(folder)
    config = _read_config(path / _CONFIG)
    weights = _read(path / _WEIGHTS)
    _check_digest(path / _WEIGHTS, weights, config["sha256"])
    try:
        encoder = LocationEncoder(**{key: config[key] for key in _ARGUMENTS})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / _CONFIG} does not describe an encoder: {error}") from error
    try:
        state = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ValueError(f"{path / _WEIGHTS} is not a safetensors file: {error}") from error
    if state and all(tensor.dtype == torch.float64 for tensor in state.values()):
        encoder.double()
    _check_fit(encoder, state, path / _WEIGHTS)
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
    path = _find(folder) / _CONFIG
    return _read_config(path)


def read_card(folder: str | os.PathLike[str]) -> str:
    """The model card of a saved encoder, in Markdown: its training, its scores, where it fails."""
    path = _find(folder)
    card = _read(path / _CARD)
    expected = _read_config(path / _CONFIG).get("card_sha256")
    _check_digest(path / _CARD, card, expected)
    return card.decode()


_ARGUMENTS = tuple(inspect.signature(LocationEncoder).parameters)


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
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of {what} do not fit: {error}") from error


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make float32 weights from `seed` on the CPU; torch's own state is left as it was."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"seed is {seed!r}; pass a whole number.")
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # torch.manual_seed would also reseed every GPU, which fork_rng does not restore here.
            torch.default_generator.manual_seed(int(seed))
            yield
    finally:
        torch.set_default_dtype(dtype)


def _find(folder: str | os.PathLike[str]) -> Path:
    """The folder of a published encoder, or the folder itself; a `Path` is always a folder.

    A published name means the same encoder even where there is a folder of that name.
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
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is truncated or altered: it is not JSON ({error}).") from None
    if not isinstance(config, dict) or not isinstance(config.get("origin", {}), dict):
        raise ValueError(f"{path} is altered: it, or its origin, is not a JSON object.")
    if config.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {config.get('format')!r}, written by locties "
            f"{config.get('locties', 'of unknown version')}; locties {__version__} reads format "
            f"{_FORMAT}. Update locties, or save the encoder again."
        )
    missing = sorted({"locties", "sha256", "config_sha256", *_ARGUMENTS} - config.keys())
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Copy or save the encoder again.")
    found = _digest(config)
    if found != config["config_sha256"]:
        raise ValueError(
            f"{path} is altered: the sha256 of its content is {found}, but it names "
            f"{config['config_sha256']}. Copy or save the encoder again."
        )
    return config


def _digest(config: Mapping[str, Any]) -> str:
    """The sha256 of a configuration without its own checksum, whatever the file's layout."""
    content = {name: value for name, value in config.items() if name != "config_sha256"}
    plain = json.loads(json.dumps(content))  # as a file would give it back
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_digest(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} is truncated or altered: its sha256 is {found}, but {_CONFIG} says "
            f"{expected}. Copy or save the encoder again."
        )


def _check_fit(encoder: LocationEncoder, state: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: (value.dtype, value.shape) for name, value in encoder.state_dict().items()}
    given = {name: (value.dtype, value.shape) for name, value in state.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"{path} does not fit its {_CONFIG}: tensor {name!r} is "
                f"{_describe(given.get(name))}, expected {_describe(wanted.get(name))}."
            )


def _describe(tensor: tuple[torch.dtype, torch.Size] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} of shape {tuple(tensor[1])}"
