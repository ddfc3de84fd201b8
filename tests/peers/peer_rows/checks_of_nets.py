"""`check_gradient` on layers, losses and nets."""

# ruff: noqa: ARG005, PLW0108 - rows have what users write

import numpy as np

from accelnn import functions
from peer_rows import sources
from peer_rows._row import Check

LABELS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def textbook_loss(scores):
    """Return softmax and cross entropy as the book has them, an eps inside the logarithm."""
    shifted = scores - np.max(scores, axis=-1, keepdims=True)
    y = np.exp(shifted) / np.sum(np.exp(shifted), axis=-1, keepdims=True)
    return -np.sum(LABELS * np.log(y + 1e-7)) / 2


def textbook_gradient(scores):
    """Return (y - t) / N, the book's backward pass, which knows no eps."""
    shifted = scores - np.max(scores, axis=-1, keepdims=True)
    y = np.exp(shifted) / np.sum(np.exp(shifted), axis=-1, keepdims=True)
    return (y - LABELS) / 2


def _frameworks():
    # The right zero in one coordinate hid what was wrong in the others.
    yield Check(
        "right-zero-beside-wrong",
        lambda x: x[0] ** 2 + x[1],
        lambda x: np.array([0.0, 1.05]),
        np.array([0.0, 2.0]),
        "WRONG",
        sources.pull("Theano/Theano", 144),
    )
    yield Check(
        "twice-the-gradient",
        lambda x: np.sum(np.tanh(x)),
        lambda x: 2 / np.cosh(x) ** 2,
        np.linspace(-1, 1, 12),
        "WRONG",
        sources.issue("BVLC/caffe", 6814),
    )
    yield Check(
        "altered-output",
        lambda x: np.sum(x**2),
        lambda x: 2 * x + 0.1,
        np.linspace(-1, 1, 12),
        "WRONG",
        sources.issue("chainer/chainer", 3541),
    )
    # A permutation's Jacobian is nearly all zeros, and so is a wrong permutation's.
    yield Check(
        "wrong-permutation",
        lambda x: np.sort(x),
        np.eye(40)[::-1],
        np.linspace(0.0, 1.0, 40),
        "WRONG",
        sources.issue("pytorch/pytorch", 57166),
        modes=("directional", "full"),
    )
    yield Check(
        "no-gradient-where-there-is-one",
        lambda x: np.sum(x),
        lambda x: np.zeros_like(x),
        np.ones((3, 3)),
        "WRONG",
        sources.issue("pytorch/pytorch", 194869),
    )
    # Tolerances must not grow with the number of coordinates.
    n = 2000
    yield Check(
        "many-2-percent-off",
        lambda x: np.sum(np.sin(x)),
        lambda x: 1.02 * np.cos(x),
        np.linspace(-3, 3, n),
        "WRONG",
        sources.issue("jax-ml/jax", 3130),
        modes=("directional", "sampled"),
    )
    yield Check(
        "many-right",
        lambda x: np.sum(np.sin(x)),
        np.cos,
        np.linspace(-3, 3, n),
        "right",
        sources.issue("jax-ml/jax", 3130),
        modes=("directional", "sampled"),
    )
    for name, f, slope in (
        ("sin", np.sin, np.cos),
        ("exp", np.exp, np.exp),
        ("tanh", np.tanh, lambda x: 1 / np.cosh(x) ** 2),
        ("cube", lambda x: x**3, lambda x: 3 * x**2),
    ):
        for dtype in ("float16", "float32"):
            x = np.array([0.4, -0.9, 1.3], dtype)
            yield Check(
                f"{name}-{dtype}",
                lambda x, f=f: np.sum(f(x)),
                lambda x, s=slope: s(x),
                x,
                "not WRONG",
                sources.pull("jax-ml/jax", 39821),
            )
            yield Check(
                f"{name}-{dtype}-40-percent-off",
                lambda x, f=f: np.sum(f(x)),
                lambda x, s=slope: (1.4 * s(x.astype(float))).astype(x.dtype),
                x,
                "not right",
                sources.pull("jax-ml/jax", 39821),
            )
    rows = np.float32(np.sin(np.arange(200.0)))
    yield Check(
        "inner-product-float32",
        lambda x: np.float32(x @ rows),
        lambda x: rows,
        np.float32(np.cos(np.arange(200.0))),
        "not WRONG",
        sources.issue("PaddlePaddle/Paddle", 4283),
    )
    weights = np.float32([[0.3576, -0.2682]])
    yield Check(
        "linear-layer-float32",
        lambda x: np.float32((weights @ x).item()),
        lambda x: weights[0],
        np.float32([0.2961, 0.5166]),
        "right",
        sources.issue("pytorch/pytorch", 5351),
    )
    for side, slope in (("left", 0.0), ("right", 1.0)):
        yield Check(
            f"relu-near-kink-{side}",
            lambda x: np.sum(np.maximum(x, 0.0)),
            np.array([slope]),
            np.array([1e-9 if slope else -1e-9]),
            "not WRONG",
            sources.issue("BVLC/caffe", 1334),
        )
    yield Check(
        "near-ties-of-a-maximum",
        np.max,
        np.array([1.0, 0.0, 0.0]),
        np.array([1.0 + 1e-7, 1.0, -2.0]),
        "not WRONG",
        sources.issue("zplizzi/tensorflow-fast-rcnn", 12),
    )
    grid = np.array([[1.0, 0.0, -1.0, 0.0], [2.0, 1.0, 1.0, -2.0], [-1.0, -2.0, -3.0, -4.0]])
    yield Check(
        "average-pooling",
        lambda x: np.mean(x[:, :2]) + np.mean(x[:, 2:]),
        np.full((3, 4), 1 / 6),
        grid,
        "right",
        sources.issue("pytorch/pytorch", 44662),
    )
    # A solver that stops early has noise of 1e-9; its gradient is none the worse.
    yield Check(
        "noise-of-1e-9",
        lambda x: np.sum(np.sin(x)) + 1e-9 * np.sin(1e12 * np.sum(x)),
        np.cos,
        np.array([0.3, 0.7]),
        "not WRONG",
        sources.issue("pasteurlabs/tesseract-core", 740),
    )
    yield Check(
        "noise-of-1e-9-10-percent-off",
        lambda x: np.sum(np.sin(x)) + 1e-9 * np.sin(1e12 * np.sum(x)),
        lambda x: 1.1 * np.cos(x),
        np.array([0.3, 0.7]),
        "WRONG",
        sources.issue("pasteurlabs/tesseract-core", 740),
    )


def _textbook():
    scores = np.array([[0.3, 2.5, 0.2], [1.3, -0.4, 0.9]])
    yield Check(
        "textbook-softmax-eps",
        textbook_loss,
        textbook_gradient,
        scores - np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]),
        "not right",
        sources.pull("deeplearning4j/deeplearning4j", 3827),
        says="eps",
    )
    yield Check(
        "softmax-without-eps",
        lambda a: functions.cross_entropy_error(functions.softmax(a), LABELS, eps=0.0),
        lambda a: (functions.softmax(a) - LABELS) / 2,
        scores,
        "right",
        sources.pull("deeplearning4j/deeplearning4j", 3827),
    )


ROWS = [
    *_frameworks(),
    *_textbook(),
]
