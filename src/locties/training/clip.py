"""The two-modality baseline: location and one other modality, as CLIP and SatCLIP train."""

from collections.abc import Sequence


class Clip:
    """One modality in every batch, with a symmetric loss unless a run says otherwise.

    Args:
        names: the one modality.

    Raises:
        ValueError: where there is more than one.

    Example:
        >>> Clip(["imagery"]).counts(epoch=0, batch=8)
        {'imagery': 8}

    Source: Klemmer et al., SatCLIP, arXiv 2311.17179; Radford et al., CLIP, arXiv 2103.00020.
    """

    direction = "symmetric"

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) != 1:
            raise ValueError(
                f"the schedule 'clip' trains on one modality, not on {len(names)} "
                f"({', '.join(names)}): take 'melt' or 'salt', or leave all but one out"
            )
        self.name = names[0]

    def counts(self, epoch: int, batch: int) -> dict[str, int]:
        """The whole batch for the one modality.

        Args:
            epoch: from 0.
            batch: pairs in a batch.

        Returns:
            ``{name: batch}``.

        Example:
            >>> Clip(["imagery"]).counts(epoch=1, batch=8)
            {'imagery': 8}
        """
        return {self.name: batch}
