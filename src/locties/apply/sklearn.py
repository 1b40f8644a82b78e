"""Embeddings as a step of a scikit-learn pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from locties._util.extras import needs
from locties.apply.grid import embed_points
from locties.apply.metadata import Encoder, column_names, resolve

with needs("sklearn", "locties.LocationFeatures"):
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted

    from locties.apply.frames import lonlat_of


class LocationFeatures(TransformerMixin, BaseEstimator):
    """Replace places by their embeddings, as a step before a regression or classifier.

    `fit` learns nothing: it loads the encoder and checks the coordinates. The output has no other
    columns of the frame; ``sklearn.compose.make_column_transformer((LocationFeatures("melt"),
    ["lon", "lat"]), remainder="passthrough")`` keeps them. ``sklearn.pipeline.make_union`` puts two
    encoders side by side.

    Args:
        encoder: as in `locties.embed`. A grid search can choose among several.
        lon: column of longitudes of a frame; as in `locties.embed`.
        lat: column of latitudes, as in `locties.embed`.

    Attributes:
        encoder_: the encoder in use.
        metadata_: its name, hash and licence, as `locties.embed` puts them into `attrs`.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> model = make_pipeline(LocationFeatures("melt"), Ridge())
        >>> model.fit([[13.4, 52.5], [2.3, 48.9], [-0.1, 51.5]], [9.1, 11.3, 10.8]).n_features_in_
        2
    """

    def __init__(
        self,
        encoder: str | Path | Encoder,
        *,
        lon: str | None = None,
        lat: str | None = None,
    ) -> None:
        self.encoder = encoder
        self.lon = lon
        self.lat = lat

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the encoder and check the coordinates of X, as `locties.embed` takes them."""
        lonlat = lonlat_of(X, self.lon, self.lat)
        self.encoder_, self.metadata_ = resolve(self.encoder)
        self.n_features_in_ = 2
        self.n_features_out_ = embed_points(self.encoder_, lonlat[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embeddings (N, dim) float32 of the places of X, given as in `fit`; not normalised."""
        check_is_fitted(self)
        return embed_points(self.encoder_, lonlat_of(X, self.lon, self.lat))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns (dim,), such as melt_000."""
        check_is_fitted(self)
        names = column_names(self.metadata_["encoder"], self.n_features_out_)
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # always float32
        tags.requires_fit = True
        return tags
