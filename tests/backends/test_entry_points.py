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
    """Return ``install(module, source, **entry points)``: the folder of an installed package.

    `owned` names the modules whose arrays are those of its backends, by name of a backend.
    """
    site = tmp_path / "site"

    def install(module, source, owned=None, **points):
        info = site / f"{module}_dist-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: 1.0\n"
        )
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        owned_lines = [f"{name} = {owner}" for name, owner in (owned or {}).items()]
        text = ["[accelnn.backends]", *lines, "[accelnn.backend_modules]", *owned_lines]
        (info / "entry_points.txt").write_text("\n".join(text))
        return site

    return install


def test_an_announced_backend_is_known_and_works(python, install):
    site = install("theirs_module", GOOD, theirs="Theirs")
    printed = python(
        """
import json, sys
import numpy as np, accelnn, accelnn.testing
accelnn.sigmoid(np.zeros(2))
loaded_early = "theirs_module" in sys.modules
backend = accelnn.get_backend("theirs")
x = np.random.default_rng(0).normal(size=(60, 4))
t = (x[:, 0] > 0).astype(np.int64)
accuracies = []

def curve(b, move=lambda array: array):
    net = accelnn.MLP([4, 5, 2], rng=1, dtype="float64", backend=b)
    net.flat[...] = move(net.flat)
    history = accelnn.fit(net, move(x), t, validation=(x, t), epochs=3, batch_size=8, rng=2)
    accuracies.append(history.test_accuracy)
    return [np.array(history.loss)]

theirs = curve("theirs")
accelnn.testing.assert_equal_but_for_rounding(theirs, lambda move: curve("numpy", move))
print(json.dumps({
    "loaded early": loaded_early,
    "same": [accelnn.get_backend(name) is backend for name in ("theirs", type(backend))],
    "row": [row for row in accelnn.list_backends() if row.name == "theirs"],
    "sigmoid": accelnn.sigmoid([0.0], backend="theirs").tolist(),
    "softmax": accelnn.softmax(np.log([[1.0, 3.0]]), backend="theirs").round(12).tolist(),
    "accuracies agree": accuracies[0] == accuracies[1],
    "steps": len(theirs[0]),
    "evaluations": len(accuracies[0]),
    "net": repr(accelnn.MLP([4, 5, 2], dtype="float64").to("theirs")),
}))
""",
        site,
    )
    assert json.loads(printed) == {
        "loaded early": False,
        "same": [True, True],
        "row": [["theirs", True, "", "cpu"]],
        "sigmoid": [0.5],
        "softmax": [[0.25, 0.75]],
        "accuracies agree": True,
        "steps": 3 * 8,
        "evaluations": 4,
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
rows = {row.name: row for row in accelnn.list_backends(load=True)}
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


def test_a_package_that_ends_the_process_does_not_end_the_command(python, install):
    install("their_broken_module", "raise SystemExit('not today')", broken="Theirs")
    site = install("theirs_module", GOOD, theirs="Theirs")
    code = """
import sys
from accelnn.__main__ import main
sys.argv, sys.stderr = ["accelnn", "backends"], sys.stdout
main()
"""
    printed = python(code, site)
    assert "their_broken_module-dist" in printed
    assert "SystemExit: not today" in " ".join(printed.split())
    assert "│ theirs " in printed
    assert "Traceback" not in printed


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


LOGGED = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="logged: %(message)s")
"""


def test_our_own_names_cannot_be_taken_by_a_package(python, install):
    """And the package is told, once for each name."""
    site = install("theirs_module", GOOD, numpy="Theirs", auto="Theirs", **{"numba:2": "Theirs"})
    code = """
import accelnn
print(type(accelnn.get_backend("numpy")).__module__, accelnn.get_backend("auto").name)
for _ in range(2):
    print(*[row.name for row in accelnn.list_backends(load=True)])
"""
    first, *logged, names, again = python(LOGGED + code, site).splitlines()
    module, auto = first.split()
    assert module == "accelnn.backends.numpy"
    assert auto in {"numpy", "numba", "cupy"}
    assert names == again == "numpy numba cupy"
    ignored = "logged: the backend 'theirs_module:Theirs' of the package theirs_module-dist is "
    for line, why in zip(
        logged,
        ("accelnn has one of that name, 'numpy'", "the name 'auto' is", "the name 'numba:2' has"),
        strict=True,
    ):
        assert line.startswith(f"{ignored}ignored: {why}")


@pytest.mark.parametrize("name", ["theirs_broken-dist", None])
@pytest.mark.parametrize(
    ("damage", "why"),
    [(b"\njusttext\n", "TypeError: "), (b"\n\xff = module\n", "UnicodeDecodeError: ")],
)
def test_entry_points_that_cannot_be_read_hide_no_others(python, install, name, damage, why):
    install("theirs_broken", GOOD, broken="Theirs")
    site = install("theirs_module", GOOD, theirs="Theirs")
    info = site / "theirs_broken_dist-1.0.dist-info"
    points = info / "entry_points.txt"
    points.write_bytes(points.read_bytes() + damage)
    if name is None:
        (info / "METADATA").unlink()
    code = """
import accelnn
for _ in range(2):
    print(*[row.name for row in accelnn.list_backends(load=True) if row.available])
print(accelnn.get_backend("theirs").name)
try:
    accelnn.get_backend("torch")
except ValueError as error:
    print(error)
"""
    logged, *rows, theirs, unknown = python(LOGGED + code, site).splitlines()
    named = f"the package {name or 'without a name'} in {site} cannot be read"
    assert logged.startswith(f"logged: the entry points of {named}, so that no backend")
    assert why in logged
    assert all(row.split()[-1] == "theirs" for row in rows)
    assert theirs == "theirs"
    assert unknown.startswith("unknown backend 'torch'; known backends are 'numpy'")


def test_listing_imports_nothing_unless_asked(python, install):
    source = f"print('imported')\n{GOOD}"
    site = install("theirs_module", source, theirs="Theirs")
    install("their_broken_module", "print('imported')\nraise OSError('dead')", broken="Theirs")
    code = """
import json, accelnn
def rows():
    listed = {row.name: row for row in accelnn.list_backends(**KEYWORDS)}
    print(json.dumps([listed["theirs"], listed["broken"]]))
KEYWORDS = {}
rows()
accelnn.get_backend("theirs")
rows()
KEYWORDS = {"load": True}
rows()
"""
    before, *imported, after, _, loaded = python(code, site).splitlines()
    assert imported == ["imported"]
    theirs, broken = json.loads(before)
    assert theirs[:2] == ["theirs", False]
    assert theirs[2] == (
        "not loaded: theirs_module:Theirs of the package theirs_module-dist is imported by "
        "accelnn.get_backend('theirs'), or accelnn.list_backends(load=True)"
    )
    assert theirs[3] == ""
    assert json.loads(after) == [["theirs", True, "", "cpu"], broken]
    theirs, broken = json.loads(loaded)
    assert theirs == ["theirs", True, "", "cpu"]
    assert "OSError: dead" in broken[2]


def test_two_packages_with_one_name_are_both_named(python, install):
    install("first_module", f"print('imported')\n{GOOD}", theirs="Theirs", alone="Theirs")
    site = install("second_module", f"print('imported')\n{GOOD}", theirs="Theirs")
    code = """
import accelnn
try:
    accelnn.get_backend("theirs")
except accelnn.errors.BackendUnavailableError as error:
    print(str(error).strip(), error.reason, sep=" | ")
for load in (False, True):
    (row,) = [row for row in accelnn.list_backends(load=load) if row.name == "theirs"]
    assert (row.available, row.device) == (False, "")
    print(row.reason)
"""
    raised, *rest = python(code, site).replace("\n\n", " ").replace("imported\n", "").splitlines()
    message, _, reason = raised.partition(" | ")
    assert message.startswith("the backend 'theirs' is announced by several packages: ")
    for package in ("first_module-dist (first_module:Theirs)", "second_module-dist (second"):
        assert package in message
    assert reason == "import failed"
    assert rest == [message, message]


def test_metadata_without_a_name_is_no_obstacle(python, install):
    site = install("theirs_module", "raise OSError('dead')", theirs="Theirs")
    (site / "theirs_module_dist-1.0.dist-info" / "METADATA").unlink()
    code = """
import accelnn
print({row.name: row.reason for row in accelnn.list_backends()}["theirs"])
try:
    accelnn.get_backend("theirs")
except accelnn.errors.BackendUnavailableError as error:
    print(error)
"""
    listed, raised, *_ = python(code, site).splitlines()
    assert "of the package theirs_module is imported" in listed
    assert raised.startswith("the package theirs_module, which announces the backend 'theirs', ")


def test_a_package_that_ends_the_interpreter_is_named(python, install):
    install("interrupted", "raise KeyboardInterrupt", interrupted="Theirs")
    site = install("exiting", "raise SystemExit('no licence')", exits="Theirs")
    code = """
import accelnn
print({row.name: row.available for row in accelnn.list_backends()}["exits"])
try:
    accelnn.get_backend("exits")
except accelnn.errors.BackendUnavailableError as error:
    print(str(error).partition(". ")[0], error.reason, type(error.__cause__).__name__, sep=" | ")
for choose in (accelnn.get_backend, lambda _: accelnn.list_backends(load=True)):
    try:
        choose("interrupted")
    except KeyboardInterrupt:
        print("interrupted")
"""
    assert python(code, site).splitlines() == [
        "False",
        (
            "the package exiting-dist, which announces the backend 'exits', failed to load it: "
            "SystemExit: no licence | import failed | SystemExit"
        ),
        "interrupted",
        "interrupted",
    ]


LIBRARY = """
import numpy as np

class Tensor(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, values):
        self.values = values

    def __dlpack__(self):
        raise AssertionError("nothing may be converted implicitly")

class Parameter(Tensor):
    pass

class Setting:
    pass
"""
OWNER = """
print("imported", __name__)
import sys
import numpy as np
from accelnn import Backend

class Theirs(Backend):
    name = "theirs"
    xp = np
    device = "cpu"

    @classmethod
    def owns(cls, x):
        library = sys.modules.get("their_library.arrays")
        return library is not None and isinstance(x, library.Tensor)
"""


@pytest.fixture
def library(tmp_path):
    """Install a library of arrays, and one of other arrays."""
    for name in ("their_library", "other_library"):
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "arrays.py").write_text(LIBRARY)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("declared", ["their_library", "their_library.arrays"])
def test_an_array_of_a_declared_module_loads_its_backend_alone(python, install, declared):
    install("other_backend", OWNER, {"other": "other_library"}, other="Theirs")
    owned = {"theirs": "nothing_there", "theirs:2": declared}
    site = install("their_backend", OWNER, owned, theirs="Theirs")
    code = """
import sys
import numpy as np, accelnn
from accelnn.backends import resolve

class Own:
    pass

numbers = (np.ones(2), np.float32(1.0), 1, 2.0, [1.0], (2,), None)
print({resolve(None, x).name for x in numbers}, "importlib.metadata" in sys.modules)
from their_library.arrays import Parameter, Setting, Tensor
class Mine(Parameter):
    pass
print(resolve(None, Own()).name)
print(resolve(None, [1.0], Mine(1)).name)
print({resolve(None, make(1)).name for make in (Mine, Parameter, Tensor)})
print({resolve(None, x()).name for x in (Own, Setting)})
print("other_backend" in sys.modules, resolve(None, Tensor(1)) is accelnn.get_backend("theirs"))
with accelnn.use_backend("numpy"):
    print(resolve(None, Tensor(1)).name)
"""
    assert python(code, site).splitlines() == [
        "{'numpy'} False",
        "numpy",
        "imported their_backend",
        "theirs",
        "{'theirs'}",
        "{'numpy'}",
        "False True",
        "numpy",
    ]


@pytest.mark.usefixtures("library")
def test_an_array_of_a_module_that_is_wrongly_declared(python, install):
    install("broken_backend", "import not_there_at_all", {"broken": "other_library"}, broken="X")
    owned = {"missing": "their_library", "auto": "their_library.more"}
    site = install("their_backend", OWNER, owned)
    code = """
import accelnn, other_library.arrays, their_library.arrays
for library in (other_library, their_library):
    try:
        accelnn.sigmoid(library.arrays.Tensor(1))
    except accelnn.errors.BackendUnavailableError as error:
        print(str(error).splitlines()[0])
print(accelnn.sigmoid(0.0))
"""
    broken, missing, works = python(code, site).splitlines()
    assert broken.startswith(
        "the package broken_backend-dist, which announces the backend 'broken'"
    )
    assert "ModuleNotFoundError" in broken
    assert missing.startswith(
        "the package their_backend-dist declares that arrays of their_library are those of an "
        "unknown backend 'missing'; known backends are 'numpy'"
    )
    assert works == "0.5"


@pytest.mark.usefixtures("library")
def test_an_array_that_two_backends_declare_selects_neither(python, install):
    install("first", OWNER, {"first": "their_library"}, first="Theirs")
    site = install("second", OWNER, {"second": "their_library"}, second="Theirs")
    code = """
import accelnn
from accelnn.backends import resolve
from their_library.arrays import Tensor
try:
    resolve(None, Tensor(1))
except accelnn.errors.BackendMismatchError as error:
    print(error)
print(resolve("first", Tensor(1)).name)
"""
    error, _, chosen = python(code, site).splitlines()
    assert error.startswith("arrays of their_library belong to several backends: ")
    for claim in ("'first' of first-dist", "'second' of second-dist"):
        assert claim in error
    assert chosen == "theirs"
