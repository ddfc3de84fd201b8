"""What the page on training shows of other libraries works as it stands; doctest runs the rest."""

import _thread
import re
import signal
import threading
from pathlib import Path

import pytest

import accelnn

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
FENCED = re.compile(r"^```python\n(import .*?)^```", re.MULTILINE | re.DOTALL)
INTERRUPTED = re.compile(r"^```python\n(try:.*?)^```", re.MULTILINE | re.DOTALL)


# MLflow stores by SQLAlchemy, which warns of how it is used there.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(sqlalchemy|alembic|mlflow)")
@pytest.mark.parametrize(
    ("block", "package"),
    [*zip(FENCED.findall(PAGE.read_text("utf-8")), ["tensorboardX", "mlflow"], strict=True)],
    ids=["tensorboard", "mlflow"],
)
def test_a_block_runs(block, package, tmp_path, monkeypatch):
    pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, PAGE, "exec"), {})  # noqa: S102 - our own page
    assert len([*tmp_path.iterdir()]) > 0


@pytest.fixture
def listens_to_ctrl_c():
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_what_ctrl_c_ends_goes_on():
    (block,) = INTERRUPTED.findall(PAGE.read_text("utf-8"))
    (x, t), _ = accelnn.load_mnist(subset="5k")
    net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    before = net.flat.copy()

    is_over = threading.Event()

    def press():
        while not is_over.wait(0.001):
            if (net.flat != before).any():
                _thread.interrupt_main()
                return

    thread = threading.Thread(target=press)
    thread.start()
    names = {"accelnn": accelnn, "net": net, "x": x, "t": t}
    try:
        exec(compile(block, PAGE, "exec"), names)  # noqa: S102 - our own page
    finally:
        is_over.set()
        thread.join()
    history = names["history"]
    assert 0 < history.steps < 1_000 * history.batches_per_epoch
    more = accelnn.fit(net, x, t, iters=5, resume=history)
    assert (history + more).steps == history.steps + 5
