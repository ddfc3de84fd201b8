"""A batched function that runs out of memory is called with fewer points."""

import weakref

import numpy as np
import pytest

import accelnn
from accelnn.errors import OutOfMemoryError

N = 40
X = np.linspace(-1.0, 2.0, N)


class Limited:
    """A sum of cubes that has no room for more than some points at once."""

    def __init__(self, most):
        self.most, self.sizes, self.seen = most, [], []

    def __call__(self, points):
        self.sizes.append(len(points))
        if len(points) > self.most:
            raise MemoryError("no room")
        self.seen += [point.tobytes() for point in points]
        return np.sum(points**3, axis=1)


@pytest.mark.parametrize("chunk_size", [None, 30])
def test_a_chunk_is_halved_until_it_fits(chunk_size):
    f = Limited(most=12)
    found = accelnn.numerical_gradient(f, X, batched=True, chunk_size=chunk_size)
    np.testing.assert_allclose(found, 3.0 * X**2, atol=1e-8)
    after_probes = [k for k in f.sizes if k > 3]
    rows = chunk_size or N
    halves = [rows, rows // 2, rows // 4, rows // 8]
    # With x, which is one of the first batch.
    failed = [2 * k + 1 for k in halves if 2 * k + 1 > f.most]
    assert after_probes[: len(failed) + 1] == [*failed, failed[-1] // 4 * 2 + 1]
    assert max(after_probes[len(failed) :]) <= f.most


def test_it_goes_on_from_where_it_was():
    class Fails(Limited):
        def __call__(self, points):
            # The third chunk, once.
            if len(self.sizes) == 3:
                self.sizes.append(len(points))
                raise MemoryError
            return super().__call__(points)

    f = Fails(most=100)
    found = accelnn.numerical_gradient(f, X, batched=True, chunk_size=10)
    np.testing.assert_allclose(found, 3.0 * X**2, atol=1e-8)
    assert f.sizes == [3, 21, 20, 20, 10, 10, 10, 10]
    moved = [point for point in f.seen[3:] if point != X.tobytes()]
    assert len(moved) == len(set(moved)) == 2 * N


def test_jacobians_and_hessians_take_smaller_chunks_too():
    f = Limited(most=7)
    hessian = accelnn.numerical_hessian(f, X[:5], batched=True)
    np.testing.assert_allclose(hessian, np.diag(6.0 * X[:5]), atol=1e-5)

    def cubes(points):
        if len(points) > f.most:
            raise MemoryError
        return points**3

    jacobian = accelnn.numerical_jacobian(cubes, X, batched=True)
    np.testing.assert_allclose(jacobian, np.diag(3.0 * X**2), atol=1e-8)


@pytest.mark.parametrize(("method", "most"), [("central", 3), ("central4", 4), ("forward", 3)])
def test_room_for_the_points_of_one_coordinate_is_enough(method, most):
    """Also where x does not fit in beside them, which the first batch has otherwise."""
    f = Limited(most=most)
    for chunk_size in (None, 1):
        found = accelnn.numerical_gradient(f, X, batched=True, chunk_size=chunk_size, method=method)
        # Of one-sided differences, step / 2 times f'' and rounding over the step are each less than
        # 2**-22 here.
        np.testing.assert_allclose(found, 3.0 * X**2, atol=2.0**-21)


def test_a_size_that_fits_is_kept():
    f = Limited(most=12)
    accelnn.numerical_gradient(f, X, batched=True, full_output=True)
    too_large = [k for k in f.sizes if k > f.most]
    assert too_large == [80, 40, 20]


def test_nothing_of_a_chunk_that_did_not_fit_is_held():
    held = []

    def f(points):
        assert not [reference for reference in held if reference() is not None]
        if len(points) > 12:
            own = points * 1.0
            held.extend([weakref.ref(own), weakref.ref(points)])
            raise MemoryError
        return np.sum(points**3, axis=1)

    accelnn.numerical_gradient(f, X, batched=True)
    assert len(held) == 6


def test_a_function_may_have_written_to_points_before_it_ran_out_of_memory():
    def f(points):
        value = np.sum(points**3, axis=1)
        if len(points) == 20:
            is_first = points[0, 1] == X[1] and points[0, 0] < X[0] + 1.0
            points[:] = 0.0
            if is_first:
                raise MemoryError
        return value

    found = accelnn.numerical_gradient(f, X, batched=True, chunk_size=10)
    np.testing.assert_allclose(found, 3.0 * X**2, atol=1e-8)


def test_the_error_says_what_is_needed_and_what_to_do():
    message = (
        r"out of memory on cpu: with batched=True f is given 3 points at least, which take 960 "
        r"bytes \(MemoryError: no room\)\. Let f allocate less for each point, or leave out batched"
    )
    with pytest.raises(OutOfMemoryError, match=message) as caught:
        accelnn.numerical_gradient(Limited(most=2), X, batched=True)
    assert isinstance(caught.value, MemoryError)
    assert str(caught.value.__cause__) == "no room"


def test_the_points_of_one_coordinate_are_the_least():
    message = "f is given 4 points at least, which take 64 bytes"
    with pytest.raises(OutOfMemoryError, match=message):
        accelnn.numerical_hessian(Limited(most=3), X[:2], batched=True, method="central4")


def test_progress_counts_every_coordinate_once(monkeypatch):
    from accelnn.gradient.evaluators import _batched

    done = []
    evaluate = _batched.Batched.evaluate

    def counted(self, columns, moved, advance):
        assert callable(advance)
        return evaluate(self, columns, moved, done.append)

    monkeypatch.setattr(_batched.Batched, "evaluate", counted)
    accelnn.numerical_gradient(Limited(most=12), X, batched=True)
    assert sum(done) == N


def test_one_point_at_a_time_is_left_to_its_own_error():
    def f(_x):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match=r"^no room$") as caught:
        accelnn.numerical_gradient(f, X.copy())
    assert type(caught.value) is MemoryError
    assert caught.value.__cause__ is None


def test_samples_that_do_not_fit_are_a_clear_error_of_a_net():
    net = accelnn.MLP([4, 3, 2], rng=0)
    # Cast, they are more than any address space.
    n = 1 << 46
    x = np.broadcast_to(np.zeros(4, np.float16), (n, 4))
    for use in (net.predict, net.loss, net.accuracy, net.gradient, net.numerical_gradient):
        arguments = (x,) if use == net.predict else (x, np.zeros(2))
        with pytest.raises(OutOfMemoryError, match=rf"{n:,} samples and a net of 23 parameters"):
            use(*arguments)
