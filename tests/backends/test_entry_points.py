"""Backends that installed packages announce: real packages, in a fresh interpreter."""

import json

import pytest

GOOD = '''
import numpy as np
from accelnn import Backend

class Theirs(Backend):
    """The least that a backend needs."""

    name = "theirs"
    xp = np
    device = "cpu"
    inferred = False

    @classmethod
    def owns(cls, x):
        return isinstance(x, np.ndarray)

not_a_backend = 3
'''


@pytest.fixture
def install(tmp_path):
    """Return ``install(module, source, **entry points)``: the folder of an installed package."""
    site = tmp_path / "site"

    def install(module, source, **points):
        info = site / f"{module}_dist-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: 1.0\n"
        )
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[accelnn.backends]", *lines]))
        return site

    return install


def test_an_announced_backend_is_known_and_works(python, install):
    site = install("theirs_module", GOOD, theirs="Theirs")
    printed = python(
        """
import json, sys
import numpy as np, accelnn
accelnn.sigmoid(np.zeros(2))
loaded_early = "theirs_module" in sys.modules
backend = accelnn.get_backend("theirs")
x = np.random.default_rng(0).normal(size=(60, 4))
t = (x[:, 0] > 0).astype(np.int64)
curves = []
for b in ("theirs", "numpy"):
    net = accelnn.MLP([4, 5, 2], rng=1, dtype="float64", backend=b)
    history = accelnn.fit(net, x, t, validation=(x, t), epochs=3, batch_size=8, rng=2)
    curves.append(history.loss + history.test_accuracy)
print(json.dumps({
    "loaded early": loaded_early,
    "same": [accelnn.get_backend(name) is backend for name in ("theirs", type(backend))],
    "row": accelnn.list_backends()[-1],
    "sigmoid": accelnn.sigmoid([0.0], backend="theirs").tolist(),
    "softmax": accelnn.softmax(np.log([[1.0, 3.0]]), backend="theirs").round(12).tolist(),
    "curves agree": curves[0] == curves[1],
    "steps": len(curves[0]),
    "net": repr(net.to("theirs")),
}))
""",
        site,
    )
    assert json.loads(printed) == {
        "loaded early": False,
        "same": [True, True],
        "row": ["theirs", True, "", "cpu"],
        "sigmoid": [0.5],
        "softmax": [[0.25, 0.75]],
        "curves agree": True,
        "steps": 3 * 8 + 4,
        "net": "<MLP 4-5-2, sigmoid, cross_entropy, float64, 37 parameters on theirs>",
    }


def test_an_announced_backend_can_be_chosen_by_the_environment(python, install):
    site = install("theirs_module", GOOD, theirs="Theirs")
    code = "import accelnn; print(accelnn.MLP([2, 2]).backend.name)"
    assert python(code, site, ACCELNN_BACKEND="theirs") == "theirs"


@pytest.mark.parametrize(
    ("source", "attribute", "why"),
    [
        ("raise RuntimeError('no such card')", "Theirs", "RuntimeError: no such card"),
        ("import not_there_at_all", "Theirs", "ModuleNotFoundError: No module named"),
        (GOOD, "Misspelt", "AttributeError: module 'their_broken_module' has no attribute"),
        (GOOD, "not_a_backend", "TypeError: their_broken_module:not_a_backend is not a Backend"),
    ],
)
def test_a_broken_package_is_reported_and_disturbs_no_other(
    python, install, source, attribute, why
):
    install("their_broken_module", source, broken=attribute)
    site = install("theirs_module", GOOD, theirs="Theirs")
    printed = python(
        """
import json
import numpy as np, accelnn
rows = {row.name: row for row in accelnn.list_backends()}
try:
    accelnn.get_backend("broken")
except accelnn.errors.BackendUnavailableError as error:
    raised = [str(error), error.reason, isinstance(error.__cause__, Exception)]
try:
    accelnn.get_backend("unknown")
except ValueError as error:
    unknown = str(error)
print(json.dumps({
    "row": rows["broken"],
    "raised": raised,
    "unknown": unknown,
    "others": [rows["numpy"].available, rows["theirs"].available],
    "sum": float(accelnn.relu(np.array([-1.0, 2.0])).sum()),
}))
""",
        site,
    )
    found = json.loads(printed)
    message, reason, has_cause = found["raised"]
    assert message.startswith(
        f"the package their_broken_module-dist, which announces the backend 'broken', failed to "
        f"load it: {why}"
    )
    assert message.endswith("\n\n    pip install --force-reinstall their_broken_module-dist\n")
    assert (reason, has_cause) == ("import failed", True)
    assert found["row"] == ["broken", False, message.strip(), ""]
    assert "'broken'" in found["unknown"]
    assert "'theirs'" in found["unknown"]
    assert found["others"] == [True, True]
    assert found["sum"] == 2.0


def test_an_announced_backend_that_lacks_something_says_so_itself(python, install):
    source = """
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendUnavailableError

class Theirs(NumpyBackend):
    name = "theirs"
    inferred = False

    def __init__(self):
        raise BackendUnavailableError("plug the card in", reason="no device")
"""
    site = install("theirs_module", source, theirs="Theirs")
    code = """
import accelnn
try:
    accelnn.get_backend("theirs")
except accelnn.errors.BackendUnavailableError as error:
    print(error, error.reason, sep=" | ")
"""
    assert python(code, site) == "plug the card in | no device"


def test_our_own_names_cannot_be_taken_by_a_package(python, install):
    site = install("theirs_module", GOOD, numpy="Theirs", auto="Theirs")
    code = """
import accelnn
print(type(accelnn.get_backend("numpy")).__module__, accelnn.get_backend("auto").name)
"""
    module, auto = python(code, site).split()
    assert module == "accelnn.backends.numpy"
    assert auto in {"numpy", "numba", "cupy"}
