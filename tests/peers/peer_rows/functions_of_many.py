"""Functions of many variables that several suites test with, and their gradients."""

import math

import numpy as np

TRAP_STIFFNESS = 2.6187455620004043155e-12
COULOMB = 2.3070775523417362878e-28
REGRESSORS = np.sin(np.arange(60.0)).reshape(20, 3) * 1.5
RESPONSES = REGRESSORS @ np.ones(3) + 0.1 * np.cos(np.arange(20.0))
LEAST_SQUARES = np.linalg.lstsq(REGRESSORS, RESPONSES, rcond=None)[0]
MANY = (8_191, 8_192, 8_193, 10_000)


def sum_of_squares(x):
    return np.sum(x**2)


def sum_of_sines(x):
    return np.sum(np.sin(x))


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_gradient(x):
    x = np.asarray(x, float)
    inner = np.zeros_like(x)
    inner[:-1] += -400.0 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2.0 * (1.0 - x[:-1])
    inner[1:] += 200.0 * (x[1:] - x[:-1] ** 2)
    return inner


def himmelblau(p):
    x, y = p
    return (x**2 + y - 11.0) ** 2 + (x + y**2 - 7.0) ** 2


def himmelblau_gradient(p):
    x, y = (float(v) for v in p)
    a, b = x**2 + y - 11.0, x + y**2 - 7.0
    return np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def sine_times_log(x):
    return np.sin(x[0] * x[1]) * np.log(x[0])


def product_and_exponential(x):
    return x[0] * x[1] * x[2] + np.exp(x[0]) * x[1]


def reciprocal_sum(x):
    return 1.0 / (np.exp(x[0]) + np.cos(x[1]) + 10)


def sine_plus_cosine(x):
    return np.sin(x[0]) + np.cos(x[1])


def residuals_squared(beta):
    return np.sum((RESPONSES - REGRESSORS @ beta) ** 2)


def logit_likelihood(beta):
    z = REGRESSORS @ beta
    return np.sum((RESPONSES.real > 0) * z - np.log(1.0 + np.exp(z)))


def logit_score(beta):
    z = REGRESSORS @ np.asarray(beta)
    return REGRESSORS.T @ ((RESPONSES > 0) - 1.0 / (1.0 + np.exp(-z)))


def trapped_ions(x):
    gap = x[0] - x[1]
    return 0.5 * TRAP_STIFFNESS * np.sum(x**2) + COULOMB * (gap * gap) ** -0.5


def trapped_ions_gradient(x):
    a, b = (float(v) for v in x)
    push = COULOMB * math.copysign(1.0, a - b) / (a - b) ** 2
    return np.array([TRAP_STIFFNESS * a - push, TRAP_STIFFNESS * b + push])


def small_units(x):
    gap = x[0] - x[1]
    return np.sum(x**2) + 1e-16 * (gap * gap) ** -0.5


def small_units_gradient(x):
    a, b = (float(v) for v in x)
    push = 1e-16 * math.copysign(1.0, a - b) / (a - b) ** 2
    return np.array([2 * a - push, 2 * b + push])


def beale(x):
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


TIMES = 0.1 * np.arange(1.0, 11.0)
BIGGS = np.exp(-TIMES) - 5 * np.exp(-10 * TIMES)


def biggs_2(x):
    return np.sum((np.exp(-TIMES * x[0]) - 5 * np.exp(-TIMES * x[1]) - BIGGS) ** 2)


def biggs_3(x):
    return np.sum((np.exp(-TIMES * x[0]) - x[2] * np.exp(-TIMES * x[1]) - BIGGS) ** 2)


def biggs_4(x):
    return np.sum((x[2] * np.exp(-TIMES * x[0]) - x[3] * np.exp(-TIMES * x[1]) - BIGGS) ** 2)


def biggs_5(x):
    t = 0.1 * np.arange(1.0, 12.0)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    model = x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + 3 * np.exp(-t * x[4])
    return np.sum((model - y) ** 2)


def bohachevsky_1(x):
    a, b = x
    return a**2 + 2 * b**2 - 0.3 * np.cos(3 * np.pi * a) - 0.4 * np.cos(4 * np.pi * b) + 0.7


def bohachevsky_2(x):
    a, b = x
    return a**2 + 2 * b**2 - 0.3 * np.cos(3 * np.pi * a) * np.cos(4 * np.pi * b) + 0.3


def bohachevsky_3(x):
    a, b = x
    return a**2 + 2 * b**2 - 0.3 * np.cos(3 * np.pi * a + 4 * np.pi * b) + 0.3


def box_betts(x):
    i = np.arange(1, 11)
    g = np.exp(-0.1 * i * x[0]) - np.exp(-0.1 * i * x[1]) - (np.exp(-0.1 * i) - np.exp(-i)) * x[2]
    return np.sum(g**2)


def branin(x):
    a, b = x
    bowl = (b - 5.1 / (4 * np.pi**2) * a**2 + 5 * a / np.pi - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10


def branin_gradient(x):
    a, b = x
    bowl = b - 5.1 / (4 * np.pi**2) * a**2 + 5 * a / np.pi - 6
    slope = 2 * bowl * (-10.2 / (4 * np.pi**2) * a + 5 / np.pi)
    return np.array([slope - 10 * (1 - 1 / (8 * np.pi)) * np.sin(a), 2 * bowl])


def bird(x):
    a, b = x
    return (
        np.sin(a) * np.exp((1 - np.cos(b)) ** 2)
        + np.cos(b) * np.exp((1 - np.sin(a)) ** 2)
        + (a - b) ** 2
    )


def bird_gradient(x):
    a, b = x
    p, q = np.exp((1 - np.cos(b)) ** 2), np.exp((1 - np.sin(a)) ** 2)
    first = np.cos(a) * p - 2 * np.cos(b) * q * (1 - np.sin(a)) * np.cos(a) + 2 * (a - b)
    second = 2 * np.sin(a) * p * (1 - np.cos(b)) * np.sin(b) - np.sin(b) * q - 2 * (a - b)
    return np.array([first, second])
