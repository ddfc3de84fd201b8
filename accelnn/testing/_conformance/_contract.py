"""The contract of a backend; each failure says what its author has to write."""

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

import accelnn
from accelnn._typing import Array
from accelnn.backends import Backend
from accelnn.testing._assertions import assert_close

# The functions of `xp` that portable ops, engines and derivatives use.
FUNCTIONS = (
    "abs", "all", "any", "argmax", "asarray", "astype", "concat", "count_nonzero", "exp", "expm1",
    "finfo", "isdtype", "isfinite", "isnan", "log", "log1p", "max", "maximum", "min", "minimum",
    "ones_like", "real", "repeat", "reshape", "result_type", "round", "sign", "sqrt", "stack",
    "sum", "take", "tanh", "where", "zeros", "zeros_like",
)  # fmt: skip
DTYPES = ("bool", "int64", "float32", "float64", "complex64", "complex128")

# More labels than are checked on the host.
MANY = 5000
LABELS = ("uint8", "uint16", "uint64", "int8", ">i8", ">i4", ">u2")


@contextmanager
def _or_else(sentence: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        msg = f"{sentence} ({type(error).__name__}: {error})"
        raise AssertionError(msg) from error


def _require_class_method(b: Backend, name: str) -> None:
    written = inspect.getattr_static(type(b), name)
    assert isinstance(written, classmethod | staticmethod), (
        f"`{name}` is called before the backend is made: write @classmethod (or @staticmethod) "
        f"above it"
    )


def _outcome(call: Callable[[Array], Any], x: Array) -> tuple[Any, str]:
    """Return a result and an empty string, or None and the message of a refusal."""
    try:
        return call(x), ""
    except (TypeError, ValueError) as error:
        return None, str(error)


class ContractConformance:
    """The namespace, the class and the arrays of a backend."""

    def test_xp_has_what_the_portable_ops_need(self, b: Backend) -> None:
        lacking = [name for name in (*FUNCTIONS, *DTYPES) if not hasattr(b.xp, name)]
        assert not lacking, (
            f"`xp`, which is {getattr(b.xp, '__name__', b.xp)}, lacks {', '.join(lacking)}: set it "
            f"to a namespace that follows the array API standard; array_api_compat has one for "
            f"some libraries whose own does not"
        )

    def test_owns_is_asked_of_the_class_about_anything(self, b: Backend) -> None:
        _require_class_method(b, "owns")
        for x in (None, 1.0, [1.0], "x", object, np.float64(1.0)):
            with _or_else(f"`owns` must return False for {x!r}: it is asked about what users pass"):
                assert type(b).owns(x) is False
        for x in (b.asarray([1.0]), b.asarray(1.0), b.zeros((2, 0), "float32")):
            assert type(b).owns(x) is True or isinstance(x, np.generic), (
                f"`owns` must return True for what `asarray` and `zeros` return, a {type(x)}"
            )

    def test_check_available_is_asked_of_the_class(self, b: Backend) -> None:
        _require_class_method(b, "check_available")
        with _or_else(
            "`check_available` must raise nothing where the backend can be made, as it could here, "
            "and accelnn.errors.BackendUnavailableError elsewhere"
        ):
            type(b).check_available()

    @pytest.mark.parametrize(
        "copied",
        [lambda b: pickle.loads(pickle.dumps(b)), copy.copy, copy.deepcopy],  # noqa: S301 - our own
        ids=["pickle", "copy", "deepcopy"],
    )
    def test_survives_pickling_and_copying(
        self, b: Backend, copied: Callable[[Backend], Backend]
    ) -> None:
        with _or_else(
            "the backend must be found again in another process: define its class at the top of a "
            "module, let it be made without arguments, or write `__reduce__`"
        ):
            again = copied(b)
            assert type(again) is type(b)
            assert (again.address, str(again.device)) == (b.address, str(b.device))
            assert_close(again.asarray(np.arange(3.0)), [0.0, 1.0, 2.0], backend=b)

    def test_arrays_can_be_written_through_views(self, b: Backend) -> None:
        x, ones = b.zeros(12, "float32"), b.asarray(np.ones((2, 3), np.float32))
        with _or_else("`zeros` must return arrays that can be written, with views"):
            b.xp.reshape(x[3:9], (2, 3))[...] = ones
            x[0:1] += 1.0
            expected = [1.0, 0.0, 0.0, *[1.0] * 6, 0.0, 0.0, 0.0]
            np.testing.assert_array_equal(b.to_numpy(x), expected)

    @pytest.mark.parametrize(
        ("x", "dtype"),
        [(1.0, "float64"), ([1.0, 2.5], "float64"), (3, "int64"), ([[True]], "bool")],
    )
    def test_python_numbers_have_the_dtypes_of_numpy(self, b: Backend, x: Any, dtype: str) -> None:
        with _or_else(
            f"`asarray({x!r})` must have the dtype {dtype}: convert Python numbers with NumPy "
            f"first, as Backend.asarray does"
        ):
            assert_close(b.asarray(x), np.asarray(x), backend=b, dtype=dtype)

    @pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", "uint8", "uint16"])
    def test_takes_every_dtype_of_numpy(self, b: Backend, dtype: str) -> None:
        host = np.arange(6.0).reshape(2, 3).astype(dtype)
        with _or_else(f"`asarray` must take arrays of dtype {host.dtype.str}, whatever it makes"):
            np.testing.assert_array_equal(b.to_numpy(b.asarray(host)), host)
            assert_close(b.asarray(host, "float32"), host.astype(np.float32), backend=b)

    def test_takes_what_cannot_be_written_and_leaves_it_alone(self, b: Backend) -> None:
        host = np.arange(3.0)
        host.flags.writeable = False
        with _or_else("`asarray` must copy arrays that are read-only, or return such"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                x = b.asarray(host)
            with suppress(TypeError, ValueError):
                x[...] = b.zeros(3, "float64")
            np.testing.assert_array_equal(host, [0.0, 1.0, 2.0])

    @pytest.mark.parametrize("samples", [9, MANY])
    @pytest.mark.parametrize("dtype", LABELS)
    def test_labels_of_any_integer_dtype(self, b: Backend, dtype: str, samples: int) -> None:
        draw = np.random.default_rng(0)
        x, labels = draw.normal(size=(samples, 3)), draw.integers(0, 4, samples)
        net, found = accelnn.MLP([3, 4], rng=0, dtype="float64", backend=b), []
        with _or_else(
            f"labels of dtype {dtype} must train as those of int64 do: let `asarray` return them "
            f"in a dtype that xp's min, max, take and == know"
        ):
            for t in (labels, labels.astype(dtype)):
                at, on_device = b.asarray(x), b.asarray(t)
                error = accelnn.cross_entropy_error(net.predict(at), on_device, backend=b)
                run = [net.loss(at, on_device), net.accuracy(at, on_device)]
                run += [float(b.to_numpy(error)), *b.to_numpy(net.gradient(at, on_device)["b1"])]
                for data in ((x, t), (at, on_device)):
                    trained = accelnn.MLP([3, 4], rng=0, dtype="float64", backend=b)
                    history = accelnn.fit(
                        trained, *data, validation=data, batch_size=5, iters=3, rng=0
                    )
                    run += [*history.loss, *history.test_accuracy]
                found.append(run)
            assert found[0] == found[1]

    def test_a_nan_is_named_wherever_it_is(self, b: Backend) -> None:
        host = np.zeros((2, 3))
        host[1, 0] = np.nan
        x = b.asarray(host)
        named = r"x\[1, 0\] is nan; 1 of 6 values are not finite"
        with pytest.raises(ValueError, match=named):
            accelnn.numerical_gradient(lambda x: b.xp.sum(x**2), x, backend=b)
        with pytest.raises(ValueError, match=named):
            accelnn.prepare(x, b.asarray(np.array([0, 1])), backend=b)

    def test_arrays_that_record_gradients(self, b: Backend) -> None:
        """They are refused with the call that works, or give right results that do not record."""
        host = np.array([[0.5, -1.5, 2.0], [0.25, 1.0, -3.0]])
        plain, t, recording = b.asarray(host), b.asarray([2, 0]), b.asarray(host.copy())
        if not hasattr(recording, "requires_grad"):
            pytest.skip("its arrays record no gradients")
        recording.requires_grad = True

        def trained(x: Array) -> Array:
            net = accelnn.MLP([3, 4], rng=0, dtype="float64", backend=b)
            accelnn.fit(net, x, t, iters=3, rng=0)
            return net.flat

        net = accelnn.MLP([3, 4], rng=0, dtype="float64", backend=b)
        doors: dict[str, Callable[[Array], Any]] = {
            "net.predict(x)": net.predict,
            "net.gradient(x, t)": lambda x: net.gradient(x, t)["W1"],
            "net.numerical_gradient(x, t)": lambda x: net.numerical_gradient(x, t)["W1"],
            "fit(net, x, t)": trained,
            "numerical_gradient(f, x)": lambda x: accelnn.numerical_gradient(
                lambda x: b.xp.sum(x**2), x, backend=b
            ),
            "numerical_gradient of an f whose value records": lambda x: accelnn.numerical_gradient(
                lambda p: b.xp.sum(p * x), b.asarray(host + 1.0), backend=b
            ),
        }
        for door, call in doors.items():
            expected = b.to_numpy(call(plain))
            with _or_else(
                f"{door} must not follow an x that records gradients: in `check_owned`, refuse it "
                f"with a TypeError that says to pass x.detach()"
            ):
                result, refusal = _outcome(call, recording)
                if refusal:
                    assert "detach" in refusal
                else:
                    assert not result.requires_grad
                    np.testing.assert_array_equal(b.to_numpy(result), expected)
