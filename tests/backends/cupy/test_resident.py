"""The kernel that keeps a net while it trains, on the processor, against NumPy in float64."""

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
from on_cpu import Kernels, build

from accelnn.backends.cupy.formulas import keeps_pre_activation
from accelnn.backends.cupy.launch import FLAGS
from accelnn.backends.cupy.resident import RESIDENT, layout_of
from accelnn.backends.cupy.source import Variant, kernel_source
from accelnn.formulas import _table

pytestmark = pytest.mark.cuda_on_cpu

BYTES = Variant("float32", has_pixels=True, has_labels=True)
NUMBERS = Variant("float64", has_pixels=False, has_labels=False)


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    """Return what trains a case in launches of some steps each, on a device of so many blocks."""
    built = {}

    def train(case, optimizer, batch, *, steps=None, processors=7, threads=32, first_tag=1):
        slots = len(_table.RULES[OPTIMIZERS[optimizer][0]].state_names)
        layout = layout_of(
            case.variant,
            case.sizes,
            batch,
            bias=bool(case.bias),
            slots=slots,
            processors=processors,
            shared=100_000,
            threads=threads,
        )
        assert layout is not None
        key = case.variant, layout
        if key not in built:
            folder = tmp_path_factory.mktemp(RESIDENT)
            options = (*case.variant.options, *layout.options)
            source = kernel_source("resident.cu")
            built[key] = Kernels(build(source, options, folder, kernels=[RESIDENT]))
        params, total = case.params.copy(), len(case.order)
        buffers, flags = np.zeros((2, params.size), case.real), np.zeros(FLAGS, np.uint32)
        losses, words = np.full(total, np.nan), [np.zeros(n, np.uint64) for n in layout.words]
        updates = -(-total // batch)
        optimizer_number, *numbers, coefficients = rule_of(optimizer, updates)
        state = state_of(params, buffers, flags)
        case.told(batch)
        activation, loss = case.net[2:4]
        for start in range(0, updates, steps or updates):
            samples = slice(start * batch, min((start + (steps or updates)) * batch, total))
            order, rest = case.order[samples], np.ascontiguousarray(coefficients[start:])
            own, tag = np.full(len(order), np.nan), np.uint32((first_tag + start) % 2**32)
            head = [*state, optimizer_number, *numbers, rest]
            rows, weights = [case.x, case.divisor, case.t, order], case.rows(0)[-1]
            data = [*rows, np.int64(len(order)), weights, activation, loss]
            arguments = [*head, *data, own, tag, *words]
            built[key](RESIDENT, layout.blocks, threads, arguments, shared=layout.shared_bytes)
            losses[samples] = own
        return losses, params, buffers

    return train


def test_what_is_tested_is_split_both_ways_and_has_several_blocks_of_the_last_layer():
    layouts = [
        layout_of(BYTES, sizes, 16, bias=True, slots=0, processors=n, shared=100_000, threads=64)
        for sizes, n in (((784, 50, 10), 11), ((31, 9, 10), 7))
    ]
    assert any(layout.rows > 1 and layout.columns > 1 for layout in layouts)
    assert any(layout.last > 1 for layout in layouts)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("variant", [BYTES, NUMBERS], ids=["bytes", "numbers"])
def test_every_rule(resident, variant, optimizer):
    """Seven batches, of which the last is short; bytes that are no whole words."""
    case = Case(variant, (31, 9, 10), 45)
    assert_trained(case, optimizer, *resident(case, optimizer, 7))


@pytest.mark.parametrize("loss", ["cross_entropy", "huber"])
def test_weights_of_samples(resident, loss):
    variant = BYTES if loss == "cross_entropy" else NUMBERS
    case = Case(variant, (31, 9, 10), 45, loss=loss)
    case.weigh()
    assert_trained(case, "Momentum", *resident(case, "Momentum", 7))


@pytest.mark.parametrize("bias", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_loss(resident, activation, loss, bias):
    case = Case(NUMBERS, (5, 9, 4), 21, activation, loss, bias)
    assert_trained(case, "SGD", *resident(case, "SGD", 8), batch=8)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if keeps_pre_activation(name)])
def test_slopes_at_pre_activations_of_bytes(resident, activation):
    """Whose sums come from several blocks, and are still to be divided."""
    case = Case(BYTES, (31, 9, 10), 45, activation)
    assert_trained(case, "SGD", *resident(case, "SGD", 7))


@pytest.mark.parametrize("variant", list(Variant.all()), ids=lambda v: "-".join(map(str, v)))
def test_every_variant(resident, variant):
    """Inputs that are read in whole words, where they are bytes."""
    case = Case(variant, (32, 6, 3), 20)
    assert_trained(case, "SGD", *resident(case, "SGD", 10), batch=10)


@pytest.mark.parametrize(
    ("sizes", "batch", "processors", "threads"),
    [
        ((1, 1, 1), 1, 2, 32),
        ((1, 1, 2), 3, 2, 32),
        ((40, 23, 32), 5, 3, 32),
        ((64, 11, 2), 16, 9, 64),
        ((3, 70, 5), 9, 12, 32),
    ],
    ids=str,
)
def test_odd_shapes(resident, sizes, batch, processors, threads):
    case = Case(Variant("float32", has_pixels=True, has_labels=True), sizes, 4 * batch - 1)
    found = resident(case, "Adam", batch, processors=processors, threads=threads)
    assert_trained(case, "Adam", *found, batch=batch)


def test_several_launches_go_on_where_the_last_one_ended(resident):
    """To the bit, also where the steps' number wraps around its 31 bits."""
    case = Case(BYTES, (31, 9, 10), 45)
    wanted = resident(case, "Momentum", 7)
    for first_tag in (1, 2**31 - 3, 2**32 - 3):
        found = resident(case, "Momentum", 7, steps=2, first_tag=first_tag)
        for ours, whole in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours, whole)


def test_it_ends_before_the_update_of_a_loss_that_is_not_finite(resident):
    case = Case(Variant("float64", has_pixels=False, has_labels=True), (5, 9, 4), 30)
    # The third batch of ten.
    case.x[case.order[23]] = np.nan
    losses, params, _ = resident(case, "SGD", 10)
    assert np.isfinite(losses[:20]).all()
    assert np.isnan(losses[23])
    assert np.isfinite(params).all()
    case.order = case.order[:20]
    np.testing.assert_array_equal(params, resident(case, "SGD", 10)[1])


def test_a_loss_beyond_the_range_of_the_nets_numbers_is_not_finite(resident):
    variant = Variant("float32", has_pixels=False, has_labels=False)
    case = Case(variant, (3, 4, 2), 4, "identity", "sum_squared_error")
    case.params[:] = 1e12
    losses, params, _ = resident(case, "SGD", 4)
    assert np.isposinf(losses).any()
    np.testing.assert_array_equal(params, case.params)


def test_all_numbers_of_a_larger_net_are_right(resident):
    case = Case(BYTES, (784, 50, 10), 32)
    found = resident(case, "SGD", 16, processors=11, threads=64)
    assert_trained(case, "SGD", *found, batch=16)
