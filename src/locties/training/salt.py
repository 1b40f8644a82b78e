"""SALT, Sequential Alternating Location Training: one modality an epoch, in turn."""

from collections.abc import Sequence


class Salt:
    """One active modality, changed at epoch boundaries, round robin.

    The location encoder and its optimiser state go on through all epochs. The encoders of the
    inactive modalities have no gradient, so that they and their optimiser state rest untouched.

    Args:
        names: the modalities, in the order in which they take their turns.

    Example:
        >>> salt = Salt(["imagery", "climate"])
        >>> [salt.counts(epoch, batch=8) for epoch in range(3)]
        [{'imagery': 8}, {'climate': 8}, {'imagery': 8}]

    Source: Hecht et al., arXiv 2606.20167.
    """

    direction = "modality_to_location"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """The whole batch for the modality whose turn it is in this epoch.

        Args:
            epoch: from 0.
            batch: pairs in a batch.

        Returns:
            ``{name: batch}`` of that modality.

        Example:
            >>> Salt(["imagery", "climate"]).counts(epoch=1, batch=8)
            {'climate': 8}
        """
        return {self.names[epoch % len(self.names)]: batch}
