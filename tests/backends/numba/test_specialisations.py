"""Kernels are compiled once for a dtype: nothing that a user may vary compiles them again."""

import importlib
import itertools
import pkgutil

import numpy as np
import pytest

import accelnn
from accelnn.losses import LOSSES

pytestmark = pytest.mark.usefixtures("always_fused")

DTYPES = ("float32", "float64")
OPTIMIZERS = (
    accelnn.SGD(0.1),
    accelnn.Momentum(0.1),
    accelnn.Nesterov(0.1),
    accelnn.AdaGrad(),
    accelnn.RMSprop(),
    accelnn.Adam(),
)


def _everything(net, x, t, **options):
    accelnn.fit(net, x, t, validation=(x, t), epochs=2, rng=0, **options)
    found = [net.predict(x), np.array(net.loss(x, t)), *net.gradient(x, t).values()]
    if net.spec.loss.classifies:
        found.append(np.array(net.accuracy(x, t)))
    return [*found, *net.numerical_gradient(x, t).values(), net.flat.copy()]


def _data(n=40, inputs=5, outputs=3, density=1.0):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(n, inputs))
    x[draw.random(x.shape) > density] = 0.0
    return x, draw.integers(0, outputs, n)


@pytest.fixture(scope="module")
def specialisations(compiled):
    """Return a function that counts what is compiled, after all has been used once."""
    from accelnn.backends.numba import engine, kernels

    # The kernels too that few samples would leave to NumPy.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "THREAD_WORK", 1)
        for dtype, density in itertools.product(DTYPES, (0.1, 1.0)):
            # Formulas whose changes are in the kernel of differences, and one that is not.
            for activation in ("sigmoid", "gelu"):
                options = {"activation": activation, "dtype": dtype, "rng": 0}
                net = accelnn.MLP([5, 4, 3], backend=compiled, **options)
                _everything(net, *_data(density=density))
    modules = [
        importlib.import_module(f"{kernels.__name__}.{module.name}")
        for module in pkgutil.iter_modules(kernels.__path__)
    ]
    functions = {
        f"{module.__name__}.{name}": function
        for module in modules
        for name, function in vars(module).items()
        if hasattr(function, "py_func")
    }
    assert len(functions) > 10

    def count():
        # Also those that the cache on disk may have had.
        return {name: len(function.signatures) for name, function in functions.items()}

    return count


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_new_net_or_run_compiles_nothing(compiled, specialisations, dtype):
    before = specialisations()
    shapes = ([5, 3], [5, 1, 3], [5, 300, 3], [5, 33, 7, 65, 3], [5, 4, 2])
    for sizes, loss in itertools.product(shapes, LOSSES):
        x, t = _data(outputs=sizes[-1])
        targets = np.eye(sizes[-1])[t]
        for activation in ("sigmoid", "relu", "tanh"):
            options = {"activation": activation, "loss": loss, "dtype": dtype, "rng": 0}
            net = accelnn.MLP(sizes, backend=compiled, **options)
            rule = accelnn.SGD(0.001)
            _everything(net, x, targets, optimizer=rule, batch_size=1 + len(sizes))
    for optimizer, batch in zip(OPTIMIZERS, (1, 3, 7, 40, 100, 2), strict=True):
        for density in (0.1, 1.0):
            net = accelnn.SimpleNet(5, 3, dtype=dtype, backend=compiled)
            _everything(net, *_data(density=density), optimizer=optimizer, batch_size=batch)
    assert specialisations() == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_number_of_threads_compiles_nothing(compiled, specialisations, dtype):
    before = specialisations()
    for threads in (1, 3):
        backend = type(compiled)(threads)
        _everything(accelnn.MLP([5, 70, 3], dtype=dtype, rng=0, backend=backend), *_data())
    assert specialisations() == before


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _every_other(a):
    wide = np.repeat(a, 2, axis=-1)
    return wide[..., ::2]


def _transposed(a):
    return np.ascontiguousarray(a.T).T


def _reversed(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def _unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    moved = raw[1:].view(a.dtype).reshape(a.shape)
    moved[...] = a
    assert not moved.flags.aligned
    return moved


def _broadcast(a):
    return np.broadcast_to(a, (1, *a.shape))[0]


def _foreign(a):
    return a.astype(a.dtype.newbyteorder())


class _Subclass(np.ndarray):
    pass


def _subclass(a):
    return a.view(_Subclass)


def _mapped(a):
    return np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)


LAYOUTS = (
    _read_only,
    _every_other,
    _transposed,
    _reversed,
    _unaligned,
    _broadcast,
    _foreign,
    _subclass,
    _mapped,
)


@pytest.mark.parametrize("lay_out", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["labels", "targets"])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_arrays_in_any_form_compile_nothing_and_are_read_right(
    compiled, specialisations, density, kind, dtype, lay_out
):
    x, t = _data(density=density)
    x = x.astype(dtype)
    if kind == "targets":
        t = np.eye(3, dtype=dtype)[t]
    before, found = specialisations(), []
    for samples, targets in ((x, t), (lay_out(x), lay_out(t))):
        net = accelnn.MLP([5, 40, 3], dtype=dtype, rng=0, backend=compiled)
        found.append(_everything(net, samples, targets, batch_size=7))
        np.testing.assert_array_equal(samples, x)
        np.testing.assert_array_equal(targets, t)
    for plain, other in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, other)
    assert specialisations() == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_that_are_read_only_or_not_aligned(compiled, specialisations, dtype):
    """Engines take a flat buffer that the caller made, as numerical gradients do."""
    x, t = _data()
    x = x.astype(dtype)
    net = accelnn.MLP([5, 40, 3], dtype=dtype, rng=0, backend=compiled)
    before = specialisations()
    for lay_out in (_read_only, _unaligned, _every_other, _mapped):
        flat = lay_out(net.flat)
        out = np.empty_like(net.flat)
        net.engine.loss_and_gradient(flat, x, t, out)
        for name, gradient in net.gradient(x, t).items():
            np.testing.assert_array_equal(net.spec.views(out, np)[name], gradient)
        np.testing.assert_array_equal(net.engine.predict(flat, x), net.predict(x))
        np.testing.assert_array_equal(net.engine.loss(flat, x, t), net.engine.loss(net.flat, x, t))
    assert specialisations() == before
