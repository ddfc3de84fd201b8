"""Of dense samples that are mostly zeros a call lists the quads, and gradients come in pieces.

No result tells so, but for rounding.
"""

import itertools
import math
from functools import partial

import numpy as np
import pytest

import accelnn
from accelnn.backends import NetSpec
from accelnn.losses import get_loss
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.usefixtures("always_fused", "few")

THREADS = (1, 2, 3)
DTYPES = ("float32", "float64")
SPECIAL = (np.nan, np.inf, -np.inf)
# Below and above the density from which no quads are listed, and none and all.
DENSITIES = (0.0, 0.1, 0.17, 0.22, 0.31, 1.0)
# Around the lengths of all blocks of rows: of 516 and of 258, in single precision.
FEW_SAMPLES = (*range(1, 6), 11, 12, 13, 15, 16, 17)
MANY_SAMPLES = (47, 48, 49, 239, 240, 241, 257, 258, 259, 515, 516, 517)


# Outputs above which a slope is infinite, and calls in some of which one thread overtakes another.
HIGH, CALLS = 10.0, 100
# Samples of which quads are listed here: fewer than elsewhere, so that all lengths are tested.
FEW = 2


@pytest.fixture
def few(compiled, monkeypatch):
    """Let quads be listed of few samples."""
    assert compiled.name == "numba"
    from accelnn.backends.numba import engine

    monkeypatch.setattr(engine, "FEW", FEW)


@pytest.fixture
def teams(compiled):
    """Return a new backend for each number of threads."""
    return [type(compiled)(threads) for threads in THREADS]


@pytest.fixture
def listed(monkeypatch):
    """Return a list of whether each call that follows listed quads."""
    from accelnn.backends.numba import memory

    calls = []

    def record(name):
        original = getattr(memory, name)

        def recorded(*args):
            calls.append(args[-1])
            return original(*args)

        monkeypatch.setattr(memory, name, recorded)

    record("_sizes_of_passes")
    record("_sizes_of_updates")
    return calls


@pytest.fixture
def pieces(monkeypatch):
    """Return how many samples the pieces of a gradient have, which are the shortest possible."""
    from accelnn.backends.numba import pieces
    from accelnn.backends.numba.vectors import SHORT

    monkeypatch.setattr(pieces, "PIECE", 1)
    monkeypatch.setattr(pieces, "TIMES", 0)
    return SHORT


def _data(samples, inputs, outputs, dtype, density, seed=1):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(samples, inputs))
    # Exactly as many non-zeros in every row, so that every few rows show the density.
    count = round(density * inputs)
    for row in x:
        row[draw.permutation(inputs)[count:]] = 0.0
    if density == 0.0:
        # Rounding errors of the same terms in all rows would add up.
        return x.astype(dtype), draw.dirichlet(np.ones(outputs), samples).astype(dtype)
    return x.astype(dtype), draw.integers(0, outputs, samples)


def _engine(b, sizes, dtype, *, bias=True, activation="sigmoid", loss="cross_entropy"):
    """Return an engine and parameters of a net."""
    spec = NetSpec(sizes, activation, get_loss(loss), bias=bias)
    params = np.random.default_rng(2).normal(scale=0.3, size=spec.size).astype(dtype)
    return accelnn.get_backend(b).make_engine(spec, dtype), params


def _loss_and_gradient(engine, params, x, t):
    gradient = np.empty_like(params)
    return engine.loss_and_gradient(params, x, t, gradient), gradient


def _results(b, sizes, x, t, move=lambda value: value, **options):
    engine, params = _engine(b, sizes, x.dtype.name, **options)
    params, x, t = move(params), move(x), move(t)
    loss, gradient = _loss_and_gradient(engine, params, x, t)
    found = [engine.predict(params, x), engine.loss(params, x, t), loss, gradient]
    return [np.asarray(array) for array in found]


def _compare(teams, sizes, x, t, **options):
    """Compare with NumPy, and the bits of all numbers of threads."""
    alone, *others = (_results(b, sizes, x, t, **options) for b in teams)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert_equal_but_for_rounding(
        alone, lambda move: _results("numpy", sizes, x, t, move, **options)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", DENSITIES)
def test_any_number_of_samples(teams, density, dtype):
    for samples in (*FEW_SAMPLES, *MANY_SAMPLES):
        _compare(teams, (33, 17, 3), *_data(samples, 33, 3, dtype, density))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", DENSITIES)
def test_any_width(teams, density, dtype):
    widths = (1, 10, 16, 17, 50)
    for inputs, width in itertools.product((1, 15, 16, 17, 31, 32, 33), widths):
        _compare(teams, (inputs, width, 3), *_data(37, inputs, 3, dtype, density))
        _compare(teams, (inputs, width + 1), *_data(18, inputs, width + 1, dtype, density))
    _compare(teams, (784, 50, 10), *_data(100, 784, 10, dtype, density))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_any_number_of_pieces(teams, pieces, density, dtype):
    for samples in (*FEW_SAMPLES, 5 * pieces - 1, 5 * pieces, 5 * pieces + 1):
        for bias in (True, False):
            data = _data(samples, 33, 3, dtype, density)
            _compare(teams, (33, 17, 3), *data, bias=bias)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_pieces_of_the_usual_length(teams, density):
    sizes = (784, 300, 70, 10)
    piece = accelnn.MLP(sizes, backend=teams[0]).engine._most_samples
    for samples in (piece - 1, piece, piece + 1, 2 * piece + 1):
        _compare(teams, sizes, *_data(samples, 784, 10, "float32", density))


def test_a_gradient_is_the_mean_of_those_of_its_pieces(compiled, pieces):
    engine, params = _engine(compiled, (33, 17, 3), "float64")
    x, t = _data(2 * pieces + 1, 33, 3, "float64", 1.0)

    def mean(move):
        moved, samples = move(params), move(x)
        loss, gradient = np.zeros(()), np.zeros_like(params)
        for start in range(0, len(x), pieces):
            piece = slice(start, start + pieces)
            part_of_loss, part = _loss_and_gradient(engine, moved, samples[piece], t[piece])
            share = len(x[piece]) / len(x)
            loss += share * part_of_loss
            gradient += share * part
        return loss, gradient

    assert_equal_but_for_rounding(_loss_and_gradient(engine, params, x, t), mean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quads_of_samples_that_are_mostly_zeros_are_listed(compiled, listed, dtype):
    net = accelnn.MLP((100, 5, 3), dtype=dtype, rng=2, backend=compiled)
    for density, samples, expected in (
        (0.0, FEW, True),
        (0.15, FEW, True),
        (0.15, FEW - 1, False),
        (0.26, FEW, False),
        (0.26, 100, False),
        (1.0, 100, False),
    ):
        x, t = _data(samples, 100, 3, dtype, density)
        listed.clear()
        net.predict(x)
        net.loss(x, t)
        net.gradient(x, t)
        assert listed == [expected] * 3


@pytest.mark.parametrize("piece", ["short", "usual"])
def test_rows_that_are_denser_than_those_that_tell(teams, request, piece):
    """All of a row's numbers, and the vectors written after them, have a place."""
    from accelnn.backends.numba.kernels.nonzeros import PROBE

    if piece == "short":
        request.getfixturevalue("pieces")
    for samples in (8 * PROBE, 8 * PROBE + 3, 100 * PROBE):
        for inputs in (33, 64):
            x, t = _data(samples, inputs, 3, "float32", 1.0)
            x[[i * samples // PROBE for i in range(PROBE)]] = 0.0
            _compare(teams, (inputs, 97, 3), x, t)


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_zeros_and_denormal_numbers(teams, dtype):
    x, t = _data(37, 33, 3, dtype, 0.1)
    x[x == 0.0] = -0.0
    _compare(teams, (33, 17, 3), x, t)
    x[x == 0.0] = np.finfo(dtype).smallest_subnormal
    _compare(teams, (33, 17, 3), x, t)


def test_the_most_inputs_of_which_quads_are_listed(compiled, listed):
    from accelnn.backends.numba.forms import QUAD_INPUTS

    for inputs in (QUAD_INPUTS, QUAD_INPUTS + 1):
        x, t = _data(16, inputs, 3, "float32", 0.01)
        x[0, -1], x[1, -2] = 1.0, 2.0
        listed.clear()
        _compare([compiled], (inputs, 3), x, t)
        assert listed == [inputs == QUAD_INPUTS] * 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "identity"])
@pytest.mark.parametrize("piece", ["short", "usual"])
def test_numbers_that_are_not_finite(teams, request, piece, activation, value, dtype):
    """Zeros times those are NaN, left out or not."""
    if piece == "short":
        request.getfixturevalue("pieces")
    x, t = _data(21, 33, 3, dtype, 0.2)
    # A pixel that no sample has, and a sample without pixels.
    x[:, 5], x[9] = 0.0, 0.0
    for sizes in ((33, 17, 3), (33, 3)):
        outputs = sizes[1]
        weights, biases = 33 * outputs, 33 * outputs + outputs
        # In the first layer, a weight of that pixel and another one, a bias, and parameters after.
        places = [5 * outputs + outputs - 1, 7 * outputs, weights + outputs - 1]
        places += [biases + 3, -1] if len(sizes) == 3 else []
        for place in places:
            engines = [_engine(b, sizes, dtype, activation=activation) for b in teams]
            reference = _engine("numpy", sizes, dtype, activation=activation)
            for _, params in (*engines, reference):
                params[place] = value
            _check_special(engines, reference, x, t)
        changed = x.copy()
        changed[9, 2] = value
        engines = [_engine(b, sizes, dtype, activation=activation) for b in teams]
        reference = _engine("numpy", sizes, dtype, activation=activation)
        _check_special(engines, reference, changed, t)


def _check_special(engines, reference, x, t):
    alone, *others = (_special(*each, x, t) for each in engines)
    for together in others:
        assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    engine, params = reference
    assert_equal_but_for_rounding(
        alone, lambda move: _special(engine, move(params), move(x), move(t))
    )


def _special(engine, params, x, t):
    loss, gradient = _loss_and_gradient(engine, params, x, t)
    found = [engine.predict(params, x), engine.loss(params, x, t), loss, gradient]
    # One NaN is as good as another.
    return [np.where(np.isnan(array), np.nan, array) for array in found]


def test_a_loss_that_is_not_finite_stops_no_other_piece(compiled, pieces):
    engine, params = _engine(
        compiled, (33, 17, 3), "float32", activation="relu", loss="sum_squared_error"
    )
    x, t = _data(3 * pieces, 33, 3, "float32", 1.0)
    # A unit that is on in the second piece alone.
    unit = 7
    params[unit : 33 * 17 : 17] = 0.0
    params[unit], params[33 * 17 + unit] = 2.0, -1.0
    x[:, 0] = 0.0
    x[pieces : 2 * pieces, 0] = 1.0
    targets = np.eye(3, dtype=np.float32)[t]
    _, clean = _loss_and_gradient(engine, params, x, targets)
    # The square of that overflows in the first piece.
    targets[0] = 1e25
    loss, gradient = _loss_and_gradient(engine, params, x, targets)
    assert loss == np.inf
    assert clean[unit] != 0.0
    assert gradient[unit] == clean[unit]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bias", [True, False])
def test_a_gradient_is_computed_again_if_its_errors_are_not_finite(compiled, listed, bias):
    """The loss is finite, and so are the weights whose products with zeros are left out."""
    options = {"activation": "identity", "loss": "sum_squared_error", "bias": bias}
    x, t = _data(37, 33, 3, "float32", 0.1)
    targets = 1e10 * np.eye(3, dtype=np.float32)[t]
    unit = 4

    def run(b, move):
        engine, params = _engine(b, (33, 17, 3), "float32", **options)
        # The unit's output is 0, so that its weights do not matter to the loss.
        params[unit : (33 + bias) * 17 : 17] = 0.0
        after = (33 + bias) * 17 + unit * 3
        params[after : after + 3] = 3e38, 0.0, 0.0
        return _loss_and_gradient(engine, *map(move, (params, x, targets)))

    found = run(compiled, lambda value: value)
    assert listed == [True, False]
    loss, gradient = found
    assert np.isfinite(loss)
    assert np.isnan(gradient).any()
    assert_equal_but_for_rounding(found, partial(run, "numpy"))


def _half_of_square(a, t):
    return (a - t) * (a - t) / 2


def _slope_that_is_infinite(a, t):
    return math.inf if a > HIGH else a - t


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_gradient_of_one_layer_is_computed_again_too(teams, listed):
    """Its errors are those of the output, which one thread looks at while others go on."""
    loss = accelnn.Loss("steep", _half_of_square, _slope_that_is_infinite)
    outputs = 70
    sizes = (33, outputs)
    x, _ = _data(50, 33, 3, "float32", 0.1)
    targets = np.random.default_rng(3).normal(size=(50, outputs)).astype(np.float32)

    def run(b, move):
        spec = NetSpec(sizes, "sigmoid", loss)
        params = np.random.default_rng(2).normal(scale=0.3, size=spec.size).astype(np.float32)
        # The bias of the last output, in a panel that no thread but the last has a share in.
        params[-1] = 2.0 * HIGH
        engine = accelnn.get_backend(b).make_engine(spec, "float32")
        return _loss_and_gradient(engine, *map(move, (params, x, targets)))

    for team in teams:
        for _ in range(CALLS):
            listed.clear()
            found = run(team, lambda value: value)
            assert listed == [True, False]
            assert np.isfinite(found[0])
            assert np.isnan(found[1]).any()
    assert_equal_but_for_rounding(found, partial(run, "numpy"))


def test_what_memory_held_before_is_no_error_of_the_first_layer(compiled, listed, monkeypatch):
    """Nothing is computed again for numbers after the last output, which are never used."""
    from accelnn.backends.numba import memory

    monkeypatch.setattr(memory, "aligned_empty", lambda size, dtype: np.full(size, np.nan, dtype))
    engine, params = _engine(compiled, (33, 3), "float32", loss="sum_squared_error")
    x, t = _data(37, 33, 3, "float32", 0.1)
    _, gradient = _loss_and_gradient(engine, params, x, np.eye(3, dtype=np.float32)[t])
    assert np.isfinite(gradient).all()
    assert listed == [True]
