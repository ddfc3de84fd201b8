"""Random nets, data for them in many layouts, and what each backend makes of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

import accelnn
from accelnn.activations import ACTIVATIONS
from accelnn.backends.numpy import NumpyBackend
from accelnn.losses import LOSSES
from accelnn.testing import assert_equal_but_for_rounding

__all__ = ["EXTREMES", "LAYOUTS", "RandomNet", "random_net"]

# Moves times samples times parameters are differences of the portable engine, which take a while.
MOST_DIFFERENCES = 200_000
WIDTHS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 50, 64, 65)
SAMPLES = (1, 2, 3, 5, 8, 20, 47, 48, 49, 100, 130)
# Of one update each, none divides by what may be rounding noise.
RULES = (
    accelnn.SGD(0.05),
    accelnn.Momentum(0.02),
    accelnn.Nesterov(0.02, weight_decay=0.1),
    accelnn.AdamW(0.01, eps=1e-2),
    accelnn.RMSprop(0.01, eps=1e-2),
)


def _read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def _unaligned(x: np.ndarray) -> np.ndarray:
    room = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype) if x.size else x
    found = room.reshape(x.shape)
    found[...] = x
    return found


# How an array may lie in memory; each has the numbers of the array it is made from.
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every third column": lambda x: np.repeat(x, 3, axis=1)[:, ::3],
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "read-only": lambda x: _read_only(x.copy()),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "float64": lambda x: x.astype(np.float64),
    "unaligned": _unaligned,
}

# What makes some numbers of x extreme.
EXTREMES: dict[str, tuple[float, ...]] = {
    "not a number": (np.nan,),
    "infinite": (np.inf,),
    "both infinities": (np.inf, -np.inf),
    "large": (1e12, -1e12),
    "small": (1e-12, -1e-12),
    "denormal": (1e-40, -1e-40),
    "zeros of both signs": (0.0, -0.0),
}


class MovedNumpy(NumpyBackend):
    """NumPy with what its ops round moved as inputs are, and NumPy itself if nothing is moved.

    Moves of a net's inputs do not show how far errors made inside grow: that of a sigmoid near 1 in
    its slope s (1 - s), that of a probability p near its target t in p - t, or those of sums of
    equal terms. Moving results at random is stochastic arithmetic: J. Vignes, "Discrete Stochastic
    Arithmetic for Validating Results of Numerical Software", Numerical Algorithms 37 (2004).
    """

    def __init__(self, move: Any) -> None:
        self._move = move
        for op in ("matmul", "softmax", *ACTIVATIONS):
            setattr(self, op, self._moving(getattr(self, op)))

    def _moving(self, op: Any) -> Any:
        return lambda *given: self._move(op(*given))

    def with_memory(self, op: str) -> Any:
        # NumPy's own would pass those ops by.
        return lambda x, _memory: getattr(self, op)(x)

    def exponentials(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        e, total, top = super().exponentials(x)
        # The largest score is exact, and cancels.
        return self._move(e), self._move(total), top

    def sum(self, x: np.ndarray, axis: int, *, keepdims: bool = False) -> np.ndarray:
        # Every addition rounds.
        partial = np.cumsum(x, axis)
        moved_by = np.sum(self._move(partial) - partial, axis, keepdims=keepdims)
        return super().sum(x, axis, keepdims=keepdims) + moved_by

    def sum_into(self, out: np.ndarray, x: np.ndarray, axis: int) -> None:
        out[...] = self.sum(x, axis)


@dataclass(frozen=True)
class RandomNet:
    """A net, samples and targets, and how the samples lie in memory."""

    sizes: tuple[int, ...]
    options: dict[str, Any]
    x: np.ndarray
    t: np.ndarray
    layout: str
    rule: Any
    batch: int
    flat: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        shape = "-".join(map(str, self.sizes))
        kind = f"{self.t.dtype} {self.t.shape}"
        return f"{shape}, {self.options}, {len(self.x)} samples {self.layout}, {kind}, {self.rule}"

    def results(self, backend: Any, move: Any = lambda value: value, layout: str = "C") -> list:
        """Return what the net computes on a backend, as NumPy's arrays."""
        net = accelnn.MLP(self.sizes, **self.options, rng=0, backend=backend)
        net.flat[...] = net.backend.asarray(move(self.flat), net.dtype)
        x, t = move(self.x), self.t
        here = LAYOUTS[layout](x) if net.backend.owns(x) else net.backend.asarray(x)
        there = net.backend.asarray(t)
        host = net.backend.to_numpy
        found = [host(net.predict(here)), np.array(net.loss(here, there), net.dtype)]
        gradient = net.gradient(here, there)
        found += [host(gradient[name]) for name in net.params]
        if len(x) * self.flat.size <= MOST_DIFFERENCES:
            numerical = net.numerical_gradient(here, there)
            found += [host(numerical[name]) for name in net.params]
        if not (np.isfinite(x).all() and np.isfinite(self.flat).all()):
            # Which is what `fit` refuses.
            return found
        with warnings.catch_warnings():
            # Three updates learn nothing, and say so.
            warnings.simplefilter("ignore")
            history = accelnn.fit(
                net, here, there, iters=3, batch_size=self.batch, optimizer=self.rule, rng=1
            )
        return [*found, np.array(history.loss, net.dtype), host(net.flat)]

    def assert_agrees(self, backend: Any) -> None:
        """Assert that a backend computes what NumPy does, up to rounding."""
        assert_equal_but_for_rounding(
            self.results(backend, layout=self.layout),
            lambda move: self.results(MovedNumpy(move), move),
        )

    def assert_agrees_in_extremes(self, backend: Any) -> None:
        """Assert that the same numbers are finite as on NumPy, and that those agree.

        Whether a number that is not finite is infinite depends on how a saturated slope rounds.
        """
        actual, rest = self.results(backend, layout=self.layout), []

        def finite(move: Any) -> list[np.ndarray]:
            expected = self.results(MovedNumpy(move), move)
            both = zip(actual, expected, strict=True)
            pairs = [(np.isfinite(a), np.isfinite(b), a, b) for a, b in both]
            if not rest:
                for of_ours, of_numpy, _, _ in pairs:
                    np.testing.assert_array_equal(of_ours, of_numpy)
                rest.extend(np.where(of_ours, a, 0.0) for of_ours, _, a, _ in pairs)
            return [np.where(of_ours, b, 0.0).astype(b.dtype) for of_ours, _, _, b in pairs]

        finite(lambda value: value)
        # Kernels flush what is smaller than a normal number, of which sums may be larger.
        smallest = float(np.finfo(self.x.dtype).tiny) / float(np.finfo(self.x.dtype).eps) ** 2
        assert_equal_but_for_rounding(rest, finite, terms=smallest)

    def with_extremes(self, kind: str, seed: int) -> RandomNet:
        """Return the net with extreme numbers among its samples."""
        x, draw = self.x.copy(), Random(seed)  # noqa: S311 - repeatable
        for place in draw.sample(range(x.size), max(1, x.size // 10)):
            x.reshape(-1)[place] = draw.choice(EXTREMES[kind])
        return replace(self, x=x)


def random_net(seed: int) -> RandomNet:
    """Return the net of a seed."""
    draw, numbers = Random(seed), np.random.default_rng(seed)  # noqa: S311 - repeatable
    loss, dtype = draw.choice(list(LOSSES)), draw.choice(["float32", "float64"])
    hidden = [draw.choice(WIDTHS) for _ in range(draw.choice([0, 1, 1, 1, 2, 3]))]
    outputs = draw.choice([2, 3, 10, 17] if loss == "cross_entropy" else [1, 2, 5, 10])
    sizes = (draw.choice([1, 2, 5, 16, 33, 90]), *hidden, outputs)
    each = [draw.choice(list(ACTIVATIONS)) for _ in hidden]
    options = {
        "activation": draw.choice(list(ACTIVATIONS)) if draw.random() < 0.5 or not each else each,
        "loss": loss,
        "dtype": dtype,
        "dropout": draw.choice([0.0, 0.0, 0.3]) if hidden else 0.0,
    }
    samples = draw.choice(SAMPLES)
    x = numbers.normal(size=(samples, sizes[0]))
    x[numbers.random(x.shape) > draw.choice([0.05, 0.2, 0.6, 1.0])] = 0.0
    labels = numbers.integers(0, max(2, outputs), samples)
    if loss in {"sum_squared_error", "huber"}:
        t = numbers.normal(size=(samples, outputs)).astype(dtype)
    elif loss == "binary_cross_entropy" and outputs > 1:
        t = numbers.integers(0, 2, (samples, outputs)).astype(dtype)
    elif draw.random() < 0.5 or outputs == 1:
        t = labels
    else:
        t = np.eye(outputs, dtype=dtype)[labels]
    net = accelnn.MLP(sizes, **options, rng=seed, backend="numpy")
    flat = net.flat + 0.1 * numbers.normal(size=net.flat.shape).astype(dtype)
    return RandomNet(
        sizes,
        options,
        x.astype(dtype),
        t,
        draw.choice(list(LAYOUTS)),
        draw.choice(RULES),
        draw.choice([1, 7, 100]),
        flat,
    )
