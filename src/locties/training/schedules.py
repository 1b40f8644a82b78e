"""The three schedules: which modalities a batch holds. All the rest of training is one loop.

To add one, write a subclass and ``SCHEDULES["mine"] = Mine``.
"""

from collections.abc import Sequence

from locties._util.registry import Registry


class Schedule:
    """How MELT, SALT and clip differ: in `counts` and in the direction of the loss."""

    direction = "modality_to_location"  # unless a run names another

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """How many samples of each modality a batch holds, `batch` in all; epochs count from 0."""
        raise NotImplementedError


class Melt(Schedule):
    """MELT, Multimodal Embedding via Location Tying: every batch mixes all modalities.

    A batch of B pairs holds B_m samples of each modality m, as equal in number as B allows. All B
    locations are candidates for every sample, whichever modality they came with.

    Example:
        >>> Melt(["imagery", "rain", "haze"]).counts(epoch=0, batch=8)
        {'imagery': 3, 'rain': 3, 'haze': 2}

    Source: Hecht et al., arXiv 2606.20167.
    """

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """Equal counts; the first modalities get one more if `batch` is not divisible."""
        if batch < len(self.names):
            raise ValueError(
                f"batch={batch} cannot hold {len(self.names)} modalities: "
                f"pass batch={len(self.names)} or more"
            )
        share, rest = divmod(batch, len(self.names))
        return {name: share + (i < rest) for i, name in enumerate(self.names)}


class Salt(Schedule):
    """SALT, Sequential Alternating Location Training: one modality an epoch, in turn.

    The location encoder and its optimiser state carry over to the next epoch. The encoders of
    resting modalities do not change.

    Example:
        >>> salt = Salt(["imagery", "rain"])
        >>> [salt.counts(epoch, batch=8) for epoch in range(3)]
        [{'imagery': 8}, {'rain': 8}, {'imagery': 8}]

    Source: Hecht et al., arXiv 2606.20167.
    """

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """All samples come from the modality whose turn it is."""
        return {self.names[epoch % len(self.names)]: batch}


class Clip(Schedule):
    """The two-modality baseline: location and one modality, as CLIP and SatCLIP train.

    Example:
        >>> Clip(["imagery"]).counts(epoch=0, batch=8)
        {'imagery': 8}

    Source: Klemmer et al., SatCLIP, arXiv 2311.17179; Radford et al., CLIP, arXiv 2103.00020.
    """

    direction = "symmetric"

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) != 1:
            raise ValueError(
                f"schedule 'clip' trains on one modality and got {len(names)} "
                f"({', '.join(names)}): pass one, or schedule 'melt' or 'salt'"
            )
        super().__init__(names)

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """All samples come from the one modality."""
        return {self.names[0]: batch}


SCHEDULES = Registry("schedule", melt=Melt, salt=Salt, clip=Clip)
