"""Functions of one variable: `numerical_diff`, and the gradient of a number."""

import math

import numpy as np

from peer_rows import sources
from peer_rows._row import Derivative, quiet

HALF = 0.5
NEAR_CATHODE = 1.4424183196362515e-9

# The orders 1 to 4 at 0.5, to 60 digits and rounded, and how far the next singularity is.
AT_HALF = {
    "cos": ((-0.479425538604203, -0.8775825618903728, 0.479425538604203, 0.8775825618903728), 1.0),
    "sin": ((0.8775825618903728, -0.479425538604203, -0.8775825618903728, 0.479425538604203), 1.0),
    "tan": ((1.2984464104095248, 1.4186890138709114, 4.9219928425941815, 16.430343835093716), 0.9),
    "cosh": ((0.5210953054937474, 1.1276259652063807, 0.5210953054937474, 1.1276259652063807), 1.0),
    "sinh": ((1.1276259652063807, 0.5210953054937474, 1.1276259652063807, 0.5210953054937474), 1.0),
    "tanh": (
        (0.7864477329659274, -0.7268619813835873, -0.5652092882597703, 3.952219563724583),
        1.0,
    ),
    "arcsinh": (
        (0.8944271909999159, -0.35777087639996635, -0.2862167011199731, 1.7173002067198384),
        0.9,
    ),
    "exp": ((1.6487212707001282,) * 4, 1.0),
    "expm1": ((1.6487212707001282,) * 4, 1.0),
    "exp2": (
        (0.9802581434685472, 0.6794631683661498, 0.4709679794473242, 0.32645012708792703),
        1.0,
    ),
    "square": ((1.0, 2.0, 0.0, 0.0), 1.0),
    "sqrt": (
        (0.7071067811865476, -0.7071067811865476, 2.1213203435596424, -10.606601717798213),
        0.4,
    ),
    "log": ((2.0, -4.0, 16.0, -96.0), 0.4),
    "log1p": ((2 / 3, -4 / 9, 16 / 27, -32 / 27), 1.0),
    "log10": (
        (0.8685889638065036, -1.7371779276130073, 6.948711710452029, -41.69227026271218),
        0.4,
    ),
    "log2": (
        (2.8853900817779268, -5.7707801635558535, 23.083120654223414, -138.4987239253405),
        0.4,
    ),
    "arccos": (
        (-1.1547005383792515, -0.769800358919501, -3.079201435678004, -14.369606699830685),
        0.4,
    ),
    "arcsin": ((1.1547005383792515, 0.769800358919501, 3.079201435678004, 14.369606699830685), 0.4),
    "arctan": ((0.8, -0.64, -0.256, 3.6864), 0.9),
    "arctanh": ((4 / 3, 16 / 9, 224 / 27, 1280 / 27), 0.4),
    "reciprocal": ((-4.0, 16.0, -96.0, 768.0), 0.4),
}


def square(x):
    return x**2


def minus_exponential(x):
    return np.exp(-x)


def cube(x):
    return x * x * x


def below_zero_nan(x):
    return np.where(x < 0.0, np.nan, x)


def above_zero_nan(x):
    return np.where(x > 0.0, np.nan, x)


def saturation(x):
    return x / (x + NEAR_CATHODE)


def cosc(x):
    """Return the derivative of sin(πx) / πx, by its series near 0, where the formula cancels."""
    near = np.abs(x) < 0.3
    safe = np.where(near, 1.0, x)
    far = np.cos(np.pi * safe) / safe - np.sin(np.pi * safe) / (np.pi * safe**2)
    total = 0.0 * x
    for k in range(1, 12):
        total = total + (-1) ** k * 2 * k * np.pi ** (2 * k) * x ** (2 * k - 1) / math.factorial(
            2 * k + 1
        )
    return np.where(near, total, far)


def _powers_of_ten():
    """Calculus.jl walks through 21 decades; so does every peer's default step."""
    for k in range(-10, 11):
        x = 10.0**k
        yield Derivative(
            f"square-1e{k}",
            square,
            x,
            (2 * x, 2.0, 0.0, 0.0),
            sources.CALCULUS,
            radius=max(1.0, x),
        )
    for k in range(-10, 2):
        x = 10.0**k
        right = (math.cos(x), -math.sin(x), -math.cos(x), math.sin(x))
        yield Derivative(f"sin-1e{k}", np.sin, x, right, sources.CALCULUS)
    for k in range(-1, 11):
        x = 10.0**k
        right = tuple(sign * math.exp(-x) for sign in (-1, 1, -1, 1))
        yield Derivative(f"exp(-x)-1e{k}", minus_exponential, x, right, sources.CALCULUS)
    for k in range(-10, 11):
        x = 10.0**k
        right = (1 / x, -1 / x**2, 2 / x**3, -6 / x**4)
        yield Derivative(f"log-1e{k}", quiet(np.log), x, right, sources.CALCULUS, radius=0.8 * x)


def _examples():
    for name, (right, radius) in AT_HALF.items():
        # expm1, exp2 and their like are asked for complex numbers, which NumPy gives not to all.
        known = name not in {"exp2", "arcsinh"}
        smooth = {"exp2": lambda x: np.exp(np.log(2.0) * x), "arcsinh": np.arcsinh}.get(name)
        yield Derivative(
            f"{name}-half",
            getattr(np, name),
            HALF,
            right,
            sources.NUMDIFFTOOLS_EXAMPLES,
            radius=radius,
            smooth=smooth,
            complex_steps=known or name == "arcsinh",
        )
    yield Derivative(
        "arccosh-1.5",
        quiet(np.arccosh),
        1.5,
        (0.8944271909999159, -1.0733126291998991, 3.148383712319704, -15.455701860478547),
        sources.NUMDIFFTOOLS_EXAMPLES,
        radius=0.45,
        smooth=lambda x: np.log(x + np.sqrt(x**2 - 1)),
    )


def _numdifftools():
    for x in (7.6564547238847105, 8.9428143931508, 2.2204460492503134e-14, math.pi / 2):
        right = (-math.sin(x), -math.cos(x), math.sin(x), math.cos(x))
        yield Derivative(f"cos-{x:.3g}", np.cos, x, right, sources.NUMDIFFTOOLS)
    twos = np.full((3, 2), 2.0)
    right = (np.full((3, 2), 12.0), np.full((3, 2), 12.0), np.full((3, 2), 6.0), np.zeros((3, 2)))
    yield Derivative("cube-of-matrix", cube, twos, right, sources.NUMDIFFTOOLS)
    yield Derivative("exp-integer-0", np.exp, 0, (1.0, 1.0, 1.0, 1.0), sources.NUMDIFFTOOLS)
    x = np.linspace(0.0, 2 * np.pi, 13)
    right = (np.cos(x), -np.sin(x), -np.cos(x), np.sin(x))
    yield Derivative("sin-13-points", np.sin, x, right, sources.NUMDIFFTOOLS)
    yield Derivative("sinh-0", np.sinh, 0.0, (1.0, 0.0, 1.0, 0.0), sources.NUMDIFFTOOLS)
    yield Derivative(
        "log-0.001",
        quiet(np.log),
        0.001,
        (1e3, -1e6, 2e9, -6e12),
        sources.NUMDIFFTOOLS,
        radius=0.0008,
    )


def _julia():
    foos = {
        "sin": (np.sin, (math.cos(1), -math.sin(1), -math.cos(1), math.sin(1))),
        "exp": (np.exp, (math.e,) * 4),
        "square": (square, (2.0, 2.0, 0.0, 0.0)),
        "sqrt(x+1)": (
            lambda x: np.sqrt(x + 1),
            (0.5 / 2**0.5, -0.25 / 2**1.5, 0.375 / 2**2.5, -0.9375 / 2**3.5),
        ),
    }
    for name, (f, right) in foos.items():
        for dtype in ("float64", "float32"):
            single = dtype == "float32"
            yield Derivative(
                f"{name}-1-{dtype}",
                f,
                np.array(1.0, dtype),
                right[: 1 if single else 4],
                sources.FINITE_DIFFERENCES,
                epsilon=2.0**-23 if single else 0.0,
            )
    yield Derivative(
        "abs-0.001",
        np.abs,
        0.001,
        (1.0, 0.0),
        sources.FINITE_DIFFERENCES,
        radius=0.0009,
        smooth=lambda x: x,
        complex_steps=False,
    )
    yield Derivative(
        "polynomial-of-3",
        lambda x: 4 * x**3 + 3 * x**2 + 2 * x + 1,
        1.0,
        (20.0, 30.0, 24.0, 0.0),
        sources.FINITE_DIFFERENCES,
    )
    yield Derivative(
        "cosc-0",
        cosc,
        0.0,
        (-(math.pi**2) / 3, 0.0, math.pi**4 / 5, 0.0),
        sources.issue("JuliaDiff/FiniteDifferences.jl", 124),
        radius=0.28,
    )
    yield Derivative(
        "sin-2-along-a-line",
        lambda e: np.sin(2.0 + e),
        0.0,
        (math.cos(2), -math.sin(2), -math.cos(2), math.sin(2)),
        sources.issue("JuliaDiff/FiniteDifferences.jl", 32),
    )
    yield Derivative(
        "michaelis-2e-8",
        quiet(saturation),
        2e-8,
        (3137210.795286552,),
        sources.issue("JuliaMath/Calculus.jl", 132),
        radius=1.6e-8,
    )
    yield Derivative(
        "sin-quarter-turn",
        np.sin,
        math.pi / 4,
        (2**-0.5, -(2**-0.5), -(2**-0.5), 2**-0.5),
        sources.FINITE_DIFF,
    )
    x = np.linspace(-2 * np.pi, 2 * np.pi, 100)
    right = (np.cos(x), -np.sin(x), -np.cos(x), np.sin(x))
    yield Derivative("sin-100-points", np.sin, x, right, sources.FINITE_DIFF)
    x = np.linspace(0.0, 0.1, 11)
    yield Derivative(
        "sin-11-points", np.sin, x, (np.cos(x), -np.sin(x)), sources.CALCULUS_DERIVATIVE
    )
    for x in (0.0, 1.0, 10.0, 100.0):
        yield Derivative(
            f"parabola-{x:g}",
            lambda x: x * x,
            x,
            (2 * x, 2.0, 0.0, 0.0),
            sources.CALCULUS_DERIVATIVE,
            radius=max(1.0, x),
        )


def _autograd():
    table = {
        "3abs": (lambda x: 3.0 * np.abs(x), (1.1, -1.1), lambda x: math.copysign(3.0, x)),
        "3sign": (lambda x: 3.0 * np.sign(x), (1.1, -1.1), lambda _: 0.0),
        "3sin": (lambda x: 3.0 * np.sin(x), (-0.6,), lambda x: 3 * math.cos(x)),
        "3exp": (lambda x: 3.0 * np.exp(x), (0.9,), lambda x: 3 * math.exp(x)),
        "3log": (lambda x: 3.0 * np.log(x), (0.4,), lambda x: 3 / x),
        "-3x": (lambda x: 3.0 * -x, (1.6,), lambda _: -3.0),
        "3cos": (lambda x: 3.0 * np.cos(x), (-0.6,), lambda x: -3 * math.sin(x)),
        "3tan": (lambda x: 3.0 * np.tan(x), (0.5,), lambda x: 3 / math.cos(x) ** 2),
        "3cosh": (lambda x: 3.0 * np.cosh(x), (-1.1,), lambda x: 3 * math.sinh(x)),
        "3sinh": (lambda x: 3.0 * np.sinh(x), (1.7,), lambda x: 3 * math.cosh(x)),
        "3tanh": (lambda x: 3.0 * np.tanh(x), (-0.8,), lambda x: 3 / math.cosh(x) ** 2),
    }
    for name, (f, places, right) in table.items():
        for x in places:
            sign = math.copysign(1.0, x)
            smooth = {
                "3abs": lambda x, sign=sign: 3 * sign * x,
                "3sign": lambda x, sign=sign: 3 * sign + 0 * x,
            }.get(name)
            yield Derivative(
                f"{name}-{x:g}",
                f,
                x,
                (right(x),),
                sources.AUTOGRAD_SCALARS,
                radius={"3log": 0.3, "3tan": 0.9, "3tanh": 0.9}.get(name, 1.0),
                smooth=smooth,
                complex_steps=smooth is None,
            )
    yield Derivative(
        "3x^3.2-1.7",
        lambda x: 3.0 * x**3.2,
        1.7,
        (30.85026224027993, 39.92386878153874, 28.18155443402734, 3.315476992238511),
        sources.AUTOGRAD_WRAPPERS,
        radius=1.5,
    )
    a = np.linspace(-1.5, 1.5, 10)
    yield Derivative(
        "a+sin+cosh",
        lambda a: a + np.sin(a) + np.cosh(a),
        a,
        (1 + np.cos(a) + np.sinh(a), -np.sin(a) + np.cosh(a)),
        sources.AUTOGRAD_WRAPPERS,
    )


def _others():
    at_two = {
        "x": (lambda x: x, (1.0, 0.0)),
        "x*x": (lambda x: x * x, (4.0, 2.0)),
        "gauss": (lambda x: np.exp(-x * x / 2), (-2 * math.exp(-2), 3 * math.exp(-2))),
        "tan(cos(log))": (
            lambda x: np.tan(np.cos(np.log(x))),
            (-0.6189608570782715, 0.31981260922139937, 0.03955995399297972, -1.4618798306539627),
        ),
    }
    for name, (f, right) in at_two.items():
        for x in (2, 2.0):
            yield Derivative(
                f"{name}-{x!r}", f, x, right, sources.issue("derivkit/derivkit", 95), radius=0.9
            )
    for x in (1e-300, 1e-12, 1e12):
        yield Derivative(
            f"half-x^2-{x:g}",
            lambda x: x * x / 2,
            x,
            (x, 1.0),
            sources.issue("jax-ml/jax", 39797),
            radius=max(1.0, x),
        )
    x = np.array([0.1, 1.0, 3.0, 7.5])
    yield Derivative(
        "x^2-taylor",
        lambda x: x**2,
        x,
        (2 * x, np.full(4, 2.0)),
        sources.issue("JuliaDiff/TaylorDiff.jl", 41),
    )
    yield Derivative(
        "x^2-0",
        lambda x: x**2,
        0.0,
        (0.0, 2.0, 0.0, 0.0),
        sources.issue("JuliaDiff/TaylorDiff.jl", 41),
    )
    x = np.linspace(-1.0, 1.0, 5)
    yield Derivative(
        "x^3-through-0",
        lambda x: x**3,
        x,
        (3 * x**2, 6 * x, np.full(5, 6.0), np.zeros(5)),
        sources.pull("scipy/scipy", 18811),
    )
    for x in (1e3, 1e5, -1e6):
        yield Derivative(
            f"cos-{x:g}",
            np.cos,
            x,
            (-math.sin(x),),
            sources.CALCULUS,
        )


ROWS = [
    *_powers_of_ten(),
    *_examples(),
    *_numdifftools(),
    *_julia(),
    *_autograd(),
    *_others(),
]
