"""MELT, Multimodal Embedding via Location Tying: every batch is a mixture of all modalities."""

from collections.abc import Sequence


class Melt:
    """All modalities in one joint batch.

    A batch of B pairs holds B_m samples of each modality m, as equal in number as B allows: the
    first B mod M modalities have one more. All B locations are candidates for every sample,
    whichever modality they came with.

    Args:
        names: the M modalities.

    Example:
        >>> Melt(["imagery", "climate", "haze"]).counts(epoch=0, batch=8)
        {'imagery': 3, 'climate': 3, 'haze': 2}

    Source: Hecht et al., arXiv 2606.20167.
    """

    direction = "modality_to_location"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """How many samples of each modality a batch holds; the same in every epoch.

        Args:
            epoch: from 0.
            batch: pairs in a batch.

        Returns:
            Number of samples by name of modality.

        Raises:
            ValueError: where the batch is smaller than the number of modalities.

        Example:
            >>> Melt(["imagery", "climate", "haze"]).counts(epoch=0, batch=2)
            Traceback (most recent call last):
            ValueError: a batch of 2 cannot hold 3 modalities: take batch=3 or more
        """
        if batch < len(self.names):
            raise ValueError(
                f"a batch of {batch} cannot hold {len(self.names)} modalities: "
                f"take batch={len(self.names)} or more"
            )
        share, rest = divmod(batch, len(self.names))
        return {name: share + (i < rest) for i, name in enumerate(self.names)}
