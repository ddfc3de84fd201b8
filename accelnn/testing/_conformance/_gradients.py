"""Finite differences of functions on the backend's arrays."""

from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn._typing import Array, MethodName
from accelnn.backends import Backend
from accelnn.errors import GradientCheckError, ImpureFunctionError
from accelnn.testing._assertions import assert_close

METHODS = ("central", "forward", "backward", "complex", "richardson")
TOLERANCE = {
    ("central", "float64"): 1e-9,
    ("forward", "float64"): 1e-6,
    ("backward", "float64"): 1e-6,
    ("complex", "float64"): 1e-14,
    ("richardson", "float64"): 1e-12,
    ("central", "float32"): 2e-3,
    ("forward", "float32"): 1e-2,
    ("backward", "float32"): 1e-2,
    ("complex", "float32"): 1e-6,
    ("richardson", "float32"): 1e-5,
}
POINT = np.array([[0.5, -1.5, 2.0], [0.25, 1.0, -3.0]])


class GradientConformance:
    """Derivatives, `check_gradient` and `gradient_descent`."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("method", METHODS)
    def test_gradient_serial_and_batched(self, b: Backend, method: str, dtype: str) -> None:
        xp = b.xp
        x = b.zeros(POINT.shape, dtype)
        x[...] = b.asarray(POINT, dtype)
        tolerance = TOLERANCE[method, dtype]

        def f(x: Array) -> Array:
            return xp.sum(xp.sin(x) * x)

        def many(x: Array) -> Array:
            return xp.sum(xp.sin(x) * x, axis=(1, 2))

        expected = np.sin(POINT) + POINT * np.cos(POINT)
        options: Any = {"method": method, "backend": b}
        serial = accelnn.numerical_gradient(f, x, **options)
        assert_close(serial, expected, backend=b, dtype=dtype, rtol=tolerance, atol=tolerance)
        for chunk_size in (None, 1, 4, 100):
            batched = accelnn.numerical_gradient(
                many, x, batched=True, chunk_size=chunk_size, **options
            )
            assert_close(batched, expected, backend=b, dtype=dtype, rtol=tolerance, atol=tolerance)
        assert_close(x, POINT.astype(dtype), backend=b, rtol=0.0)

    @pytest.mark.parametrize("method", METHODS)
    def test_jacobian_hessian_and_diff(self, b: Backend, method: str) -> None:
        xp, x = b.xp, b.asarray(POINT[0])
        options: Any = {"method": method, "backend": b}
        tolerance = {"complex": 1e-13, "richardson": 1e-11}.get(method, 1e-5)
        jacobian = accelnn.numerical_jacobian(lambda x: xp.sin(x) * x[0], x, **options)
        expected = np.diag(np.cos(POINT[0]) * POINT[0, 0])
        expected[:, 0] += np.sin(POINT[0])
        assert_close(jacobian, expected, backend=b, rtol=tolerance, atol=tolerance)
        # Products, because some libraries compute powers by logarithms: in CuPy that of a negative
        # number has an imaginary rounding error, in which complex steps are lost.
        hessian = accelnn.numerical_hessian(lambda x: xp.sum(x * x * x) * x[1], x, **options)
        c = POINT[0, 1]
        second = np.diag(6.0 * POINT[0] * c)
        second[1, 1] += 3.0 * c**2
        second[1] += 3.0 * POINT[0] ** 2
        second[:, 1] += 3.0 * POINT[0] ** 2
        second[1, 1] -= 3.0 * c**2
        assert_close(hessian, second, backend=b, rtol=1e-2, atol=1e-2)
        diff = accelnn.numerical_diff(lambda x: x * x * x, x, **options)
        assert_close(diff, 3.0 * POINT[0] ** 2, backend=b, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("method", ["central", "forward", "richardson"])
    def test_what_is_known_of_a_gradient_within_bounds(
        self, b: Backend, method: MethodName
    ) -> None:
        x = b.asarray([0.0, 0.5, 2.0])
        result = accelnn.numerical_gradient(
            lambda x: b.xp.sum(b.xp.exp(x)),
            x,
            method=method,
            bounds=(0.0, 2.0),
            full_output=True,
            backend=b,
        )
        assert b.owns(result.gradient)
        error = np.abs(b.to_numpy(result.gradient) - np.exp([0.0, 0.5, 2.0]))
        assert (error <= b.to_numpy(result.error)).all()
        assert error.max() < 1e-5

    def test_workers(self, b: Backend) -> None:
        x = b.asarray(POINT)
        gradient = accelnn.numerical_gradient(
            lambda x: b.xp.sum(b.xp.sin(x) * x), x, workers=map, backend=b
        )
        expected = np.sin(POINT) + POINT * np.cos(POINT)
        assert_close(gradient, expected, backend=b, rtol=1e-9, atol=1e-9)

    def test_closure_over_x_that_ignores_its_argument(self, b: Backend) -> None:
        x = b.zeros((2,), "float64")
        x[...] = b.asarray([3.0, 4.0])
        gradient = accelnn.numerical_gradient(lambda _: b.xp.sum(x**2), x, backend=b)
        assert_close(gradient, [6.0, 8.0], backend=b, rtol=1e-9)
        with pytest.raises(ImpureFunctionError, match="does not depend on its argument alone"):
            accelnn.numerical_gradient(
                lambda p: b.xp.broadcast_to(b.xp.sum(x**2), (p.shape[0],)),
                x,
                batched=True,
                backend=b,
            )

    def test_integers_are_promoted(self, b: Backend) -> None:
        x = b.asarray(np.array([3, 4]))
        gradient = accelnn.numerical_gradient(lambda x: b.xp.sum(x**2), x, backend=b)
        assert_close(gradient, [6.0, 8.0], backend=b, rtol=1e-9)

    def test_diff_is_elementwise(self, b: Backend) -> None:
        x = b.asarray([[1.0, 2.0, -3.0]])
        assert_close(
            accelnn.numerical_diff(lambda x: x**3, x, backend=b),
            [[3.0, 12.0, 27.0]],
            backend=b,
            rtol=1e-8,
        )

    @pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_check_gradient(self, b: Backend, dtype: str, mode: str) -> None:
        x = b.asarray(POINT, dtype)
        options: Any = {"mode": mode, "backend": b}

        def f(x: Array) -> Array:
            return b.xp.sum(x**3)

        assert accelnn.check_gradient(f, lambda x: 3.0 * x**2, x, **options).passed
        wrong = b.asarray(3.0 * POINT**2 + np.array([[0, 0, 0], [0, 1.0, 0]]), dtype)
        with pytest.raises(GradientCheckError, match=r"worst at x\[1, 1\]") as raised:
            accelnn.check_gradient(f, wrong, x, **options)
        report: Any = raised.value.report
        assert report.analytic == pytest.approx(4.0, rel=1e-3)
        assert report.numerical == pytest.approx(3.0, rel=1e-2)

    def test_functions_that_return_python_floats(self, b: Backend) -> None:
        net = accelnn.SimpleNet(rng=0, dtype="float64", backend=b)
        x, t = b.asarray([0.6, 0.9]), b.asarray(np.array(2))

        def f(_: Array) -> float:
            return net.loss(x, t)

        assert accelnn.check_gradient(f, net.gradient(x, t)["W"], net.W, backend=b).passed
        start = b.asarray([1.0, 2.0])
        moved = accelnn.gradient_descent(
            lambda x: float(b.to_numpy(b.xp.sum(x**2))), start, lr=0.1, step_num=2, backend=b
        )
        assert_close(moved, [0.64, 1.28], backend=b, rtol=1e-6)

    def test_descent(self, b: Backend) -> None:
        start = b.asarray([-3.0, 4.0])
        x = accelnn.gradient_descent(
            lambda x: b.xp.sum(x**2), start, lr=0.1, step_num=100, backend=b
        )
        # x is multiplied by 1 - 2 lr at every iteration.
        assert_close(x, np.array([-3.0, 4.0]) * 0.8**100, backend=b, rtol=1e-6)
        assert_close(start, [-3.0, 4.0], backend=b, rtol=0.0)
