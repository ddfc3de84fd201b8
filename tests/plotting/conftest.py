import os

# Before anything imports matplotlib: tests draw without a display.
os.environ["MPLBACKEND"] = "Agg"

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def _nothing_shown_and_no_settings_changed(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a figure was shown")

    monkeypatch.setattr(plt, "show", refuse)
    monkeypatch.setattr(Figure, "show", refuse)
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture
def figure():
    """A figure that pyplot does not know."""
    return Figure()
