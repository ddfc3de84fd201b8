"""What a notebook shows, run as one: nets, histories, progress bars, and no warnings."""

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install --group notebooks")
nbclient = pytest.importorskip("nbclient", reason="pip install --group notebooks")
pytest.importorskip("ipykernel", reason="pip install --group notebooks")
pytest.importorskip("rich")

# Those of Jupyter's own machinery are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

SETUP = """
import numpy as np, accelnn
(x, t), test = accelnn.load_mnist(subset="5k")
net = accelnn.MLP([784, 20, 10], rng=0, backend="numpy")
"""


class Watching(nbclient.NotebookClient):
    """Keeps what was displayed on the way, of which a notebook has only the end."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shown = []

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in {"display_data", "update_display_data"}:
            self.shown.append(msg["content"]["data"].get("text/html", ""))
        return super().process_message(msg, cell, cell_index)


def run(*cells):
    """Run cells after the setup; return their outputs, and all HTML that was displayed."""
    codes = [SETUP, *cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    client = Watching(notebook, timeout=120, kernel_name="python3")
    client.execute()
    return [cell.outputs for cell in notebook.cells[1:]], client.shown


def text_of(output):
    return output.get("text", "") or output.get("data", {}).get("text/plain", "")


def test_a_net_is_a_table_and_a_history_a_picture():
    net, history = run("net", "accelnn.fit(net, x, t, validation=test, epochs=2, rng=0)")[0]
    assert net[0]["data"]["text/html"].startswith("<table>")
    assert "<svg" in history[-1]["data"]["text/html"]


@pytest.mark.parametrize(
    ("call", "unit"),
    [
        ("accelnn.fit(net, x, t, epochs=60, rng=0, progress=True);", "2,400 steps"),
        (
            "accelnn.numerical_gradient(lambda x: np.sum(x**2), np.ones(20_000), progress=True);",
            "20,000 coordinates",
        ),
    ],
    ids=["fit", "numerical_gradient"],
)
def test_a_bar_moves_and_goes_without_a_warning(call, unit):
    (outputs,), shown = run(call)
    assert not [text_of(output) for output in outputs if "Warning" in text_of(output)]
    bars = [html for html in shown if "<progress value=" in html]
    assert len(bars) >= 2
    assert all(f"/{unit}" in bar for bar in bars)
    assert shown[-1] == ""
