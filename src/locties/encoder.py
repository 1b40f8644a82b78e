"""Location encoders: positional features, then a network; saved and loaded without pickle."""

import contextlib
import hashlib
import inspect
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from locties import __version__
from locties.features import FEATURES
from locties.lonlat import check
from locties.networks import NETWORKS, check_counts
from locties.registry import check_options

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_PUBLISHED = Path(__file__).parent / "published"
_FORMAT = 1  # raised when an older locties could not read the folder


class LocationEncoder(nn.Module):
    """Maps places to embeddings: positional features without weights, then a network.

    Embeddings are not normalised; objectives and nearest neighbours do that themselves.

    With spherical harmonics, ``.double()`` makes all but the last rounding float64. `origin` says
    where the weights come from, if anywhere else: plain values, saved and loaded with them.

    Args:
        features: a name in `locties.features.FEATURES`.
        network: a name in `locties.networks.NETWORKS`.
        dim: length of an embedding.
        feature_options: keywords of the feature, e.g. ``{"degree": 10}``.
        network_options: keywords of the network, e.g. ``{"hidden": 256}``.
        seed: of the initial weights; the global random state is neither read nor changed.

    Raises:
        ValueError: for an unknown name or option, naming the nearest known one, and for a value
            that the feature or the network refuses.

    Example:
        >>> encoder = LocationEncoder(features="xyz", network="linear", dim=4)
        >>> encoder([[13.4, 52.5], [2.35, 48.86]]).shape
        torch.Size([2, 4])

    Source: the pair of positional features and a network is that of Russwurm et al. (ICLR 2024,
    arXiv 2310.06743); the default sizes are those of the released SatCLIP. Each feature and network
    names its own source.
    """

    def __init__(
        self,
        features: str = "spherical_harmonics",
        network: str = "siren",
        dim: int = 256,
        feature_options: Mapping[str, Any] | None = None,
        network_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_counts(dim=dim)
        make_features = FEATURES[features]
        with _own_random_state(seed):
            self.features, feature_options = _build(
                make_features, feature_options, f"feature {features!r}"
            )
            make_network = partial(NETWORKS[network], self.features.dim, dim)
            self.network, network_options = _build(
                make_network, network_options, f"network {network!r}"
            )
        self.dim = int(dim)
        self.origin: dict[str, Any] = {}
        self._config = {
            "features": features,
            "feature_options": feature_options,
            "network": network,
            "network_options": network_options,
            "dim": self.dim,
            "seed": int(seed),
        }

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, options with their defaults filled in."""
        return json.loads(json.dumps(self._config))

    @property
    def device(self) -> torch.device:
        """Where the weights are (the CPU, if there are none)."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def forward(self, lonlat: Any) -> Tensor:
        """Embed places, after checking their coordinates.

        Args:
            lonlat: (N, 2), longitude then latitude in degrees: tensor, array or nested lists.
                float64 keeps its digits into the features.

        Returns:
            (N, dim) float32, on the encoder's device.

        Raises:
            ValueError: for coordinates that `locties.lonlat.check` refuses.
        """
        return self.encode(check(lonlat).to(self.device))

    def encode(self, lonlat: Tensor) -> Tensor:
        """`forward` for coordinates already checked and on the encoder's device.

        The host never waits for the device here, so this is what a training loop calls.

        Args:
            lonlat: (N, 2) degrees.

        Returns:
            (N, dim) float32.
        """
        return self.network(self.features(lonlat)).float()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``config.json`` into `folder`, which `load` reads.

        The folder appears whole or not at all: it is written aside and renamed. An encoder that
        is already there is replaced; were the machine to stop between the two renames that this
        takes, the old one would be found beside, in ``.<name>.<random>.old``.

        Args:
            folder: where; made with the folders above it, or replaced.

        Raises:
            FileExistsError: if `folder` is a file, or holds anything but an encoder.
        """
        target = Path(folder).resolve()
        _check_replaceable(target)
        state = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        weights = safetensors.torch.save(state)
        config = {
            "format": _FORMAT,
            "locties": __version__,
            **self._config,
            "origin": self.origin,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        aside.mkdir()
        try:
            _write(aside / _WEIGHTS, weights)
            _write(aside / _CONFIG, (json.dumps(config, indent=2) + "\n").encode())
            flush_folder(aside)
            _put_in_place(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        flush_folder(target.parent)


def load(folder: str | os.PathLike[str]) -> LocationEncoder:
    """Read an encoder that `LocationEncoder.save` wrote. Nothing is unpickled.

    Args:
        folder: the folder with ``model.safetensors`` and ``config.json``, or the name of an
            encoder that comes with locties, such as "melt".

    Returns:
        The encoder on the CPU, in eval mode, with bit-identical weights.

    Raises:
        FileNotFoundError: if there is no such folder, or a file is missing in it.
        ValueError: if the configuration cannot be read, was written in a newer format or names
            something unknown, or if the weights are truncated, altered or do not fit it.

    Example:
        >>> LocationEncoder("xyz", "linear", dim=4).save("mine")
        >>> load("mine")([[13.4, 52.5]]).shape
        torch.Size([1, 4])
    """
    path = Path(folder)
    if not path.is_dir():
        published = sorted(entry.name for entry in _PUBLISHED.glob("*") if entry.is_dir())
        if str(folder) not in published:
            raise FileNotFoundError(
                f"no folder {str(folder)!r}, and no published encoder of that name (there is: "
                f"{', '.join(published) or 'none'}): pass a folder written by LocationEncoder.save."
            )
        path = _PUBLISHED / str(folder)
    config = _read_config(path / _CONFIG)
    weights = _read(path / _WEIGHTS)
    found = hashlib.sha256(weights).hexdigest()
    if found != config["sha256"]:
        raise ValueError(
            f"{path / _WEIGHTS} is truncated or altered: its sha256 is {found}, but {_CONFIG} "
            f"says {config['sha256']}. Copy or save the encoder again."
        )
    try:
        encoder = LocationEncoder(**{key: config[key] for key in _ARGUMENTS})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / _CONFIG} describes no encoder: {error}") from error
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


_ARGUMENTS = tuple(inspect.signature(LocationEncoder).parameters)


def _build(
    make: Callable[..., Any], options: Mapping[str, Any] | None, what: str
) -> tuple[Any, dict[str, Any]]:
    """What `make` makes of `options`, and these as plain values with every default filled in."""
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
def _own_random_state(seed: int) -> Iterator[None]:
    """Draw on the CPU from `seed` inside, and leave every generator outside as it was."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"seed is {seed!r}; pass a whole number.")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also reseed every GPU, which fork_rng does not restore here.
        torch.default_generator.manual_seed(int(seed))
        yield


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        others = sorted({entry.name for entry in target.iterdir()} - {_WEIGHTS, _CONFIG})
        if others:
            raise FileExistsError(
                f"{target} holds other files ({', '.join(others[:3])}): pass a new folder."
            )
    elif target.exists():
        raise FileExistsError(f"{target} is a file: pass a folder.")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can open a folder at all."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put_in_place(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`; what was there is kept until the new one is in its place."""
    if not target.exists():
        aside.rename(target)
        return
    old = aside.with_name(aside.name + ".old")
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: {path.parent} is no complete encoder. Copy or save it again."
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    content = _read(path)
    try:
        config = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is truncated or altered: it is no JSON ({error}).") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no JSON object.")
    if config.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {config.get('format')!r}, written by locties "
            f"{config.get('locties', 'of unknown version')}; locties {__version__} reads format "
            f"{_FORMAT}. Update locties, or save the encoder again."
        )
    missing = sorted({"locties", "sha256", *_ARGUMENTS} - config.keys())
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Copy or save the encoder again.")
    return config


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
