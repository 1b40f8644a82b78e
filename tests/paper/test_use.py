"""The session of the book's page on using an encoder, run on other data."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from locties_paper.site.notebook import REPOSITORY


@pytest.mark.data
def test_the_books_session_makes_a_map_of_a_table_in_fewer_than_15_lines(tmp_path):
    cells = nbformat.read(REPOSITORY / "book" / "use.ipynb", as_version=4).cells
    (session,) = [cell for cell in cells if "session" in cell.metadata.get("tags", [])]
    lines = [line for line in session.source.splitlines() if line.strip()]
    assert len(lines) < 15

    rng = np.random.default_rng(0)
    latitude = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 200)))
    sites = pd.DataFrame({"longitude": rng.uniform(-180, 180, 200), "latitude": latitude})
    sites.assign(log_km=latitude).to_csv(tmp_path / "sites.csv", index=False)
    names = {"folder": tmp_path, "resolution": 10.0}
    plt.switch_backend("Agg")
    exec(session.source, names)
    plt.close("all")
    truth = np.broadcast_to(names["grid"].lat[:, None], names["field"].shape)
    assert np.corrcoef(truth.ravel(), names["field"].ravel())[0, 1] > 0.7
    assert plt.imread(tmp_path / "map.png").shape[2] == 4
