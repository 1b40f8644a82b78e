"""From labels to a map: predictions, their uncertainty, and where not to trust them.

Example: ``locties.fit_map("best", "points.csv", target="ph").predict([[13.4, 52.5]])``.
"""

from locties._util.extras import needs, require

require("map", "locties.mapping", "pandas", "scipy", "sklearn", "tqdm")
with needs("map", "locties.mapping"):
    from locties.mapping.estimators import LocationClassifier, LocationRegressor
    from locties.mapping.fit import LocationMap, fit_map

__all__ = ["LocationClassifier", "LocationMap", "LocationRegressor", "fit_map"]
