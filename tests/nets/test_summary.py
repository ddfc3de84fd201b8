"""Tables of nets: in a terminal and in a notebook, with the same numbers."""

import math
from html.parser import HTMLParser

import pytest

import accelnn
from accelnn.testing import StrictBackend

CONTENT = """\
MLP, huber(0.5), float64 on numpy
------------------------------------------------
layer  shape         activation       parameters
------------------------------------------------
1      784 -> 1,000  leaky_relu(0.2)     785,000
2      1,000 -> 20   relu                 20,020
3      20 -> 10      identity                210
------------------------------------------------
total  6.143 MiB                         805,230"""


def test_the_text():
    net = accelnn.MLP(
        [784, 1000, 20, 10],
        activation=[accelnn.LeakyReLU(0.2), "relu"],
        loss=accelnn.Huber(0.5),
        dtype="float64",
        backend="numpy",
    )
    assert net.summary() == CONTENT


@pytest.mark.parametrize(
    ("net", "last"),
    [
        (accelnn.SimpleNet(), "1      2 -> 3    identity             6"),
        (accelnn.MLP([2, 3]), "1      2 -> 3    softmax              9"),
        (
            accelnn.MLP([2, 1], loss="binary_cross_entropy"),
            "1      2 -> 1    sigmoid     ",
        ),
    ],
    ids=repr,
)
def test_the_last_layer_says_what_predict_gives(net, last):
    assert any(line.startswith(last) for line in net.summary().splitlines())


@pytest.mark.parametrize(
    ("sizes", "memory"), [([1, 2], "16 bytes"), ([15, 16], "1 KiB"), ([511, 512], "1 MiB")]
)
def test_memory(sizes, memory):
    assert f"total  {memory} " in accelnn.MLP(sizes).summary()


def test_its_backend_is_named():
    assert accelnn.MLP([2, 3], backend=StrictBackend).summary().startswith("MLP, cross_entropy, ")


class Table(HTMLParser):
    """The cells of a table, and what attributes its tags have."""

    def __init__(self, content):
        super().__init__()
        self.open, self.rows, self.attributes, self.caption = [], [], [], ""
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes.append((tag, *attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "caption":
            self.caption += data
        else:
            self.rows[-1][-1] += data


def test_the_page_says_the_same():
    net = accelnn.MLP([784, 50, 10], activation="gelu")
    table = Table(net._repr_html_())
    caption, _, *lines = net.summary().splitlines()
    assert table.caption == caption
    shown = [line.split() for line in lines if not line.startswith("-")]
    assert [" ".join(row).split() for row in table.rows] == shown
    # Screen readers say the headers of a cell.
    assert table.attributes.count(("th", ("scope", "col"))) == 4
    assert table.attributes.count(("th", ("scope", "row"))) == 3
    assert {name for _, *attributes in table.attributes for name, _ in attributes} == {"scope"}


def test_names_are_text_and_no_code():
    name = "<script>alert('x')</script>&amp;"
    own = accelnn.Activation(name, math.sin, math.cos)
    net = accelnn.MLP([2, 3, 4], activation=own)
    assert "<script" not in net._repr_html_()
    assert name in [cell for row in Table(net._repr_html_()).rows for cell in row]
