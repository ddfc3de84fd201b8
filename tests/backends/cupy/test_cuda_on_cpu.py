"""Kernels run on the processor, compared with NumPy in float64."""

import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    Case,
    assert_trained,
    rule_of,
    state_of,
)

from accelnn.backends.cupy.dataset import NULL
from accelnn.backends.cupy.examine import limit_of
from accelnn.backends.cupy.launch import FLAGS, UNFIT
from accelnn.backends.cupy.source import Variant
from accelnn.testing import assert_equal_but_for_rounding

pytestmark = pytest.mark.cuda_on_cpu

VARIANTS = list(Variant.all())
GRIDS = [(1, 1), (3, 33), (4, 64)]


def _gradient(kernels, case, blocks, threads):
    told = case.told(len(case.order))
    gradient, flags = np.full(case.params.size, np.nan, case.real), np.zeros(FLAGS, np.uint32)
    head = [case.params, flags, *case.of_first_update]
    kernels("batch_errors", blocks, threads, [*head, *told])
    kernels("batch_gradient", blocks, threads, [gradient, np.int32(gradient.size), *told])
    assert flags.tolist() == [0] * FLAGS
    return gradient


def _assert_gradient(kernels, case, grid):
    gradient = _gradient(kernels, case, *grid)
    _assert_close(
        case,
        [case.losses, gradient],
        lambda move: case.reference(move(case.params), case.order)[:2],
    )


def _assert_close(case, found, reference):
    assert_equal_but_for_rounding(found, reference, dtype=case.variant.dtype)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("sizes", [(1, 1), (31, 33, 3), (785, 7, 31, 10)], ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v)))
def test_gradients_of_odd_shapes(kernels_for, variant, sizes, batch):
    _assert_gradient(kernels_for(variant), Case(variant, sizes, batch), (3, 33))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("bias", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_all_activations_and_losses(kernels_for, activation, loss, bias, grid):
    variant = Variant("float64", has_pixels=False, has_labels=False)
    case = Case(variant, (5, 9, 4), 7, activation, loss, bias)
    _assert_gradient(kernels_for(variant), case, grid)


def test_the_gradient_is_the_same_to_the_bit_in_every_run(kernels_for):
    variant = Variant("float32", has_pixels=True, has_labels=True)
    case = Case(variant, (31, 33, 10), 100)
    first, second = (_gradient(kernels_for(variant), case, 4, 64) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training(kernels_for, dtype, optimizer, grid):
    """Seven batches, of which the last is short, in one launch."""
    variant = Variant(dtype, has_pixels=True, has_labels=True)
    case = Case(variant, (31, 9, 10), 45)
    found = _train(kernels_for(variant), case, optimizer, grid, batch=7)
    assert_trained(case, optimizer, *found)


@pytest.mark.parametrize("loss", ["cross_entropy", "huber"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_samples(kernels_for, dtype, loss):
    variant = Variant(dtype, has_pixels=False, has_labels=loss == "cross_entropy")
    case = Case(variant, (31, 9, 10), 45, loss=loss)
    case.weigh()
    assert_trained(
        case, "Momentum", *_train(kernels_for(variant), case, "Momentum", (3, 33), batch=7)
    )


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_by_two_launches_a_step(kernels_for, optimizer, grid):
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case, kernels = Case(variant, (31, 9, 10), 45), kernels_for(variant)
    params, slots, order = case.params.copy(), np.zeros((2, case.params.size)), case.order
    flags = np.zeros(FLAGS, np.uint32)
    state, rule = state_of(params, slots, flags), rule_of(optimizer, 7)
    losses = []
    for step, start in enumerate(range(0, 45, 7)):
        case.order = order[start : start + 7]
        told = case.told(len(case.order))
        kernels("batch_errors", *grid, [params, flags, *case.of_first_update, *told])
        kernels("batch_update", *grid, [*state, *rule, np.int64(step), *told])
        losses.extend(case.losses)
    case.order = order
    assert_trained(case, optimizer, losses, params, slots)


def test_training_ends_before_the_update_of_a_loss_that_is_not_finite(kernels_for):
    variant = Variant("float64", has_pixels=False, has_labels=True)
    case = Case(variant, (5, 9, 4), 30)
    # The third batch of ten; the first is one step of the training.
    case.x[case.order[20]] = np.nan
    losses, params, _ = _train(kernels_for(variant), case, "SGD", (3, 33), batch=10)
    assert np.isfinite(losses[:20]).all()
    assert np.isnan(losses[20])
    assert np.isfinite(params).all()
    case.order = case.order[:20]
    wanted = _train(kernels_for(variant), case, "SGD", (3, 33), batch=10)[1]
    np.testing.assert_array_equal(params, wanted)


def test_a_loss_beyond_the_range_of_the_nets_numbers_is_not_finite(kernels_for):
    """In float32, though losses are summed in float64."""
    variant = Variant("float32", has_pixels=False, has_labels=False)
    case = Case(variant, (3, 2), 4, loss="sum_squared_error")
    case.params[:] = 1e20
    losses, params, _ = _train(kernels_for(variant), case, "SGD", (2, 7), batch=4)
    assert np.isposinf(losses).any()
    np.testing.assert_array_equal(params, case.params)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_mean_loss_of_each_step(kernels_for, grid):
    losses, means = np.random.default_rng(0).random(45), np.full(5, np.nan)
    variant = Variant("float32", has_pixels=False, has_labels=False)
    arguments = [losses, np.int64(45), np.int32(14), means]
    wanted = [losses[start : start + 14].mean() for start in range(0, 45, 14)]
    # Without flags nothing follows them; with flags, whether the call is unfit.
    for flags, last in ((NULL, np.nan), (np.arange(FLAGS, dtype=np.uint32), UNFIT)):
        kernels_for(variant)("mean_losses", *grid, [*arguments, flags])
        # Two sums of at most 14 positive terms in another order, each term divided before.
        rtol = 2 * 14 * np.finfo(float).eps
        np.testing.assert_allclose(means, [*wanted, last], rtol=rtol)


def _examine(kernels_for, params, t, ends, *, limit=np.nan, labels=NULL, grid=(2, 7)):
    """Return the flags of a call with these targets and parameters."""
    variant = Variant(str(params.dtype), has_pixels=False, has_labels=labels is not NULL)
    flags = np.zeros(FLAGS, np.uint32)
    size = t.dtype.itemsize
    kind = {"u": size, "i": -size, "f": 0}[t.dtype.kind]
    told = [t, np.int32(kind), np.int64(t.size), *map(np.float64, ends), labels, flags]
    arguments = [params, np.int32(params.size), np.float64(limit), *told]
    kernels_for(variant)("check_call", *grid, arguments)
    return flags.tolist()


FIT, UNFIT_ALONE = [0] * FLAGS, [0] * UNFIT + [1]


@pytest.mark.parametrize("dtype", [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_labels_of_any_type_are_looked_at_and_narrowed(kernels_for, grid, dtype):
    params = np.ones(3, np.float32)
    t = np.random.default_rng(0).integers(0, 10, 300).astype(dtype)
    labels = np.full(300, -1, np.int32)
    assert _examine(kernels_for, params, t, (0, 9), labels=labels, grid=grid) == FIT
    np.testing.assert_array_equal(labels, t)
    # Those of 64 bits among them, of which int32 would keep what is within range.
    wrong = {10, -1, np.iinfo(dtype).min, np.iinfo(dtype).max, 2**32 + 3, 2**63 + 3}
    for value in wrong:
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value != 0:
            t[299] = value
            found = _examine(kernels_for, params, t, (0, 9), labels=labels, grid=grid)
            assert found == UNFIT_ALONE, value


@pytest.mark.parametrize("value", [-1e-3, 1.001, np.nan, np.inf, -np.inf])
def test_targets_out_of_range_are_found(kernels_for, value):
    params, t = np.ones(3), np.random.default_rng(0).random(300)
    assert _examine(kernels_for, params, t, (0, 1)) == FIT
    t[299] = value
    assert _examine(kernels_for, params, t, (0, 1)) == UNFIT_ALONE
    if not np.isnan(value):
        assert _examine(kernels_for, params, t, (-np.inf, np.inf)) == FIT


@pytest.mark.parametrize("step", [1e-4, 0.5, np.nextafter(0.5, 1), 2.0**-40, 1e-100, 0.99])
def test_parameters_that_a_step_may_not_move_are_found(kernels_for, step):
    limit, t = limit_of(step), np.zeros(1)
    below = np.nextafter(limit, 0)
    assert np.spacing(below) < step
    assert np.spacing(limit) >= step
    params = np.ones(300)
    for value, found in ((below, FIT), (-below, FIT), (limit, UNFIT_ALONE), (-limit, UNFIT_ALONE)):
        params[:] = 0.0
        params[299] = value
        assert _examine(kernels_for, params, t, (0, 1), limit=limit) == found
        assert _examine(kernels_for, params, t, (0, 1)) == FIT


def test_parameters_that_are_not_finite_are_found(kernels_for):
    for value, is_large in ((np.nan, False), (np.inf, True), (-np.inf, True)):
        params = np.ones(300)
        params[299] = value
        assert _examine(kernels_for, params, np.zeros(1), (0, 1)) == [0, 1, 0, 0]
        found = _examine(kernels_for, params, np.zeros(1), (0, 1), limit=1e300)
        assert found == [0, 1, 0, is_large]


METHODS = {
    "central": ((1.0, 0.5), (-1.0, -0.5)),
    "forward": ((1.0, 1.0), (0.0, 0.0)),
    "backward": ((-1.0, -1.0), (0.0, 0.0)),
}


def _differences(kernels, case, grid, method, step):
    told = case.told(len(case.order))
    flags = np.zeros(FLAGS, np.uint32)
    kernels("batch_values", *grid, [case.params, flags, *told])
    gradient = np.full(case.params.size, np.nan, case.real)
    widest = max(case.sizes[2:-1], default=0)
    far = sum(a * b for a, b in case.shapes[:-2])
    work = np.full(2 * widest * grid[0], np.nan, case.real)
    moves = [np.float64(number) for move in METHODS[method] for number in move]
    sizes = [np.int32(gradient.size), np.int32(far)]
    arguments = [case.params, flags, gradient, *sizes, np.float64(step)]
    kernels("differences", *grid, [*arguments, *moves, work, np.int32(widest), *told])
    return gradient


def _black_box_differences(case, method, step):
    """Move one parameter after the other, and evaluate the whole net again."""
    found, base = np.zeros(case.params.size), case.reference(case.params, case.order)[0].mean()
    for i in range(found.size):
        for sign, weight in METHODS[method]:
            moved = case.params.astype(float)
            moved[i] += sign * step
            change = case.reference(moved, case.order)[0].mean() - base
            found[i] += weight * change / step
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("sizes", "bias", "grid"),
    [((5, 4), 1, (1, 1)), ((5, 7, 3), 0, (3, 33)), ((3, 4, 5, 3, 2), 1, (2, 7))],
    ids=str,
)
def test_structured_differences(kernels_for, sizes, bias, grid, activation, loss, method):
    """At a step of a half nothing cancels, neither in a black box nor here."""
    variant = Variant("float64", has_pixels=False, has_labels=False)
    case = Case(variant, sizes, 7, activation, loss, bias)
    found = _differences(kernels_for(variant), case, grid, method, 0.5)
    wanted = _black_box_differences(case, method, 0.5)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_differences_lose_nothing_to_small_steps(kernels_for, activation, step):
    """What is left is truncation, which ends at the rounding of the gradient."""
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case = Case(variant, (31, 9, 6, 10), 7, activation)
    found = _differences(kernels_for(variant), case, (2, 7), "central", step)
    wanted = case.reference(case.params, case.order)[1]
    np.testing.assert_allclose(found, wanted, atol=max(1e-14, step**2))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v)))
def test_evaluation(kernels_for, variant):
    case = Case(variant, (31, 9, 10), 100)
    hits = np.full(100, -1.0)
    flags = np.zeros(FLAGS, np.uint32)
    kernels_for(variant)("evaluate", 3, 33, [case.params, flags, hits, *case.told(100)])
    scores = case.reference(case.params, case.order)[2]
    t = case.t[case.order]
    labels = t if variant.has_labels else t.argmax(axis=1)
    np.testing.assert_array_equal(hits, scores.argmax(axis=1) == labels)
    _assert_close(
        case, [case.losses], lambda move: case.reference(move(case.params), case.order)[:1]
    )


def test_a_score_that_is_no_number_is_no_hit(kernels_for):
    variant = Variant("float64", has_pixels=False, has_labels=True)
    case = Case(variant, (5, 4), 6)
    case.x[case.order[2]] = np.nan
    hits = np.full(6, -1.0)
    flags = np.zeros(FLAGS, np.uint32)
    kernels_for(variant)("evaluate", 2, 7, [case.params, flags, hits, *case.told(6)])
    assert hits[2] == 0
    assert set(hits) <= {0, 1}


def _train(kernels, case, optimizer, grid, *, batch):
    """Return losses of samples, parameters and slots after one pass over the order."""
    total = len(case.order)
    params, slots = case.params.copy(), np.zeros((2, case.params.size), case.real)
    flags = np.zeros(FLAGS, np.uint32)
    state, rule = state_of(params, slots, flags), rule_of(optimizer, -(-total // batch))
    head = [*state, *rule, np.int64(total), *case.no_dropout]
    arguments = [*head, *case.told(batch, total)]
    kernels("train", *grid, arguments)
    return case.losses, params, slots


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_divided_as_numpy_divides(kernels_for, dtype):
    """Every byte, to the bit: a data set is kept as bytes where nothing is lost by it."""
    variant = Variant(dtype, has_pixels=True, has_labels=True)
    case, rows = Case(variant, (256, 1), 1), np.full(256, np.nan, dtype)
    case.x[:] = np.arange(256)
    kernels_for(variant)("gather_rows", 2, 33, [np.int32(256), *case.rows(1), rows])
    np.testing.assert_array_equal(rows, np.arange(256, dtype=dtype) / np.array(255, dtype))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_weight_that_is_not_finite_is_met_under_a_zero_input(kernels_for, value):
    """As NumPy meets it, for which 0 times infinity is not a number."""
    variant = Variant("float64", has_pixels=True, has_labels=True)
    case, flags = Case(variant, (5, 4, 3), 2), np.zeros(FLAGS, np.uint32)
    case.x[case.order[0], 2], case.x[case.order[1], 2] = 0, 7
    case.params[2 * 4] = value
    size = np.int32(case.params.size)
    kernels_for(variant)("check_parameters", 2, 7, [case.params, size, flags])
    head = [case.params, flags, *case.of_first_update]
    kernels_for(variant)("batch_errors", 2, 7, [*head, *case.told(2)])
    assert np.isnan(case.losses[0])
    case.params[2 * 4] = 1.0
    flags[:] = 0
    kernels_for(variant)("check_parameters", 2, 7, [case.params, size, flags])
    assert flags.tolist() == [0] * FLAGS


def test_training_notes_that_a_weight_has_overflowed(kernels_for):
    variant = Variant("float32", has_pixels=False, has_labels=False)
    case = Case(variant, (3, 2), 1, loss="sum_squared_error")
    # The output is 1e18, half of its square is a number, and what the weight is moved by is not.
    case.x[case.order], case.params[:] = [4e21, 0.0, 0.0], 2.5e-4
    flags, params = np.zeros(FLAGS, np.uint32), case.params.copy()
    state, rule = state_of(params, np.zeros((2, 8), np.float32), flags), rule_of("SGD", 1)
    head = [*state, *rule, np.int64(1), *case.no_dropout]
    kernels_for(variant)("train", 2, 7, [*head, *case.told(1)])
    assert np.isfinite(case.losses).all()
    assert not np.isfinite(params).all()
    assert flags[1] == 1
