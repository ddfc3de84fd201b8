"""Random functions of 1 to 6 coordinates, of several kinds, each a tree of `function_trees`."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from random import Random

import numpy as np
from function_trees import Node

__all__ = ["KINDS", "RandomFunction", "random_function"]


@dataclass
class RandomFunction:
    """A function, and where to differentiate it."""

    tree: Node
    x: np.ndarray
    unit: np.ndarray
    kind: str

    def __post_init__(self):
        self.text = self.tree.text()
        self.code = compile(self.text, "<random function>", "eval")
        self.exact = self.tree.values(self.x[None])
        self.gradient = self.exact.slope[:, 0]
        self.norm = float(np.linalg.norm(self.gradient.astype(float)))
        # In every direction: where f ends, it may go on in one of them only.
        signs = np.array(list(itertools.product([0.1, -0.1], repeat=len(self.x))))
        away = signs * np.where(self.x == 0.0, self.unit, self.x)
        around = self.tree.values(self.x + away).slope.astype(float)
        around = np.where(np.isfinite(around), around, 0.0)
        # The largest slopes there, of each coordinate and in all.
        self.slopes = np.maximum(np.abs(around).max(axis=1), np.abs(self.gradient).astype(float))
        self.scale = max(self.norm, float(np.linalg.norm(around, axis=0).max()))

    def __call__(self, x):
        """Return f(x) in the precision of x, which may be complex."""
        with np.errstate(all="ignore"):
            return eval(self.code, {"np": np, "x": x})  # noqa: S307 - made above

    def batched(self, x):
        """Return f at many points."""
        return np.broadcast_to(self(x.T), x.shape[:1])

    def __str__(self) -> str:
        return f"lambda x: {self.text}\n    at np.array({self.x.tolist()})"


class _Maker:
    """Makes trees of what has value and slopes at a point."""

    def __init__(self, draw: Random, x: list[float], units: list[float]) -> None:
        self.draw, self.units = draw, units
        self.x = x

    def number(self, value: float) -> Node:
        return Node("number", number=float(value))

    def constant(self) -> Node:
        return self.number(round(self.draw.uniform(-3.0, 3.0), 3) or 1.0)

    def coordinate(self, i: int) -> Node:
        """Return a coordinate in its own unit."""
        node = Node("x", number=i)
        node.at = self.x[i]
        if self.units[i] != 1.0:
            node = Node("/", (node, self.number(self.units[i])))
        return node

    def leaf(self) -> Node:
        node = self.coordinate(self.draw.randrange(len(self.x)))
        if self.draw.random() < 0.4:
            node = Node("*", (self.constant(), node))
        if self.draw.random() < 0.3:
            node = Node("+", (node, self.constant()))
        return node

    def tree(self, depth: int) -> Node:
        """Return a random expression of moderate value."""
        draw = self.draw
        if depth == 0:
            return self.leaf()
        kind = draw.random()
        if kind < 0.2:
            return self.tamed(Node(draw.choice("+-"), (self.tree(depth - 1), self.tree(depth - 1))))
        if kind < 0.4:
            return self.tamed(Node("*", (self.tree(depth - 1), self.tree(depth - 1))))
        if kind < 0.48:
            return self.tamed(Node("/", (self.tree(depth - 1), self.positive(depth - 1))))
        if kind < 0.54:
            return self.logsumexp(depth - 1)
        return self.composed(self.tree(depth - 1))

    def tamed(self, node: Node) -> Node:
        """Keep values near 1, so that exponentials and powers stay finite."""
        if not abs(node.at) < 30.0:
            return Node("tanh", (Node("*", (self.number(1e-2), node)),))
        return node

    def positive(self, depth: int) -> Node:
        node = self.tree(depth)
        return Node("+", (self.number(self.draw.choice([0.1, 1.0, 2.0])), self.power(node, 2.0)))

    def power(self, node: Node, k: float) -> Node:
        return Node("power", (node,), k)

    def logsumexp(self, depth: int) -> Node:
        node = None
        for _ in range(self.draw.randint(2, 3)):
            term = Node("exp", (self.tamed(self.tree(depth)),))
            node = term if node is None else Node("+", (node, term))
        return Node("log", (node,))

    def composed(self, node: Node) -> Node:
        choices = ["sin", "cos", "tanh", "arctan", "neg", "square", "cube", "fourth"]
        if abs(node.at) < 5.0:
            choices += ["exp"] * 2
        if node.at > 0.05:
            choices += ["log", "sqrt", "sqrt3", "half", "inverse"] * 2
        op = self.draw.choice(choices)
        powers = {"square": 2.0, "cube": 3.0, "fourth": 4.0, "half": 1.5}
        if op in powers:
            k = powers[op]
            return self.tamed(self.power(node, int(k) if k == int(k) else k))
        return self.tamed(Node(op, (node,)))

    def sum(self, nodes: list[Node]) -> Node:
        total = nodes[0]
        for node in nodes[1:]:
            total = Node(self.draw.choice("++-"), (total, node))
        return total


def _general(make: _Maker) -> Node:
    """Return a sum of trees, with all coordinates in it."""
    draw = make.draw
    terms = [make.tree(draw.randint(1, 4)) for _ in range(draw.randint(1, 3))]
    for i in range(len(make.x)):
        if draw.random() < 0.95:
            node = make.composed(make.coordinate(i))
            terms.append(Node("*", (make.constant(), node)))
    return make.sum(terms)


def _minimum(make: _Maker) -> Node:
    """Return a sum of squares of what is zero at x, to rounding."""
    draw, terms = make.draw, []
    for _ in range(len(make.x) + 1):
        node = make.tree(draw.randint(1, 2))
        gap = Node("-", (node, make.number(node.at)))
        terms.append(Node("*", (make.number(draw.uniform(0.1, 100.0)), make.power(gap, 2))))
    total = terms[0]
    for term in terms[1:]:
        total = Node("+", (total, term))
    return total


def _even(make: _Maker) -> Node:
    """Return a function of even powers and cosines of coordinates, some of which are 0."""
    draw, terms = make.draw, []
    for i in range(len(make.x)):
        node = make.coordinate(i)
        shape = draw.randrange(5)
        if shape == 0:
            node = Node("cos", (node,))
        elif shape == 1:
            node = make.power(node, draw.choice([2, 4, 3, 6]))
        elif shape == 2:
            node = Node("exp", (Node("neg", (make.power(node, 2),)),))
        elif shape == 3:
            node = Node("log", (Node("+", (make.number(1.0), make.power(node, 2))),))
        else:
            node = Node("sqrt", (Node("+", (make.number(1.0), make.power(node, 2))),))
        terms.append(Node("*", (make.constant(), node)))
    if draw.random() < 0.3:
        product = terms[0]
        for term in terms[1:]:
            product = Node("*", (product, term))
        return product
    return make.sum(terms)


def _edge(make: _Maker) -> Node:
    """Return a sum of functions that are defined on one side of a point at x, or near it."""
    draw, terms = make.draw, []
    for i in range(len(make.x)):
        u = make.coordinate(i)
        gap = draw.choice([0.0, 0.0, 1e-9, 1e-6, 1e-4, 1e-2])
        room = Node("-", (u, make.number(u.at - gap)))
        if draw.random() < 0.3:
            # To the left of x instead.
            room = Node("-", (make.number(u.at + gap), u))
        ops = ["sqrt3", "power", "smooth"]
        if room.at > 0.0:
            ops += ["log", "sqrt", "xlogx"]
        op = draw.choice(ops)
        if op == "power":
            node = make.power(room, draw.choice([1.5, 2.5, 1.25, 3.5]))
        elif op == "smooth":
            node = make.composed(u)
        elif op == "xlogx":
            node = Node("*", (room, Node("log", (room,))))
        else:
            node = Node(op, (room,))
        terms.append(Node("*", (make.constant(), node)))
    total = make.sum(terms)
    if draw.random() < 0.3:
        total = Node(draw.choice(["sin", "arctan", "tanh"]), (total,))
    return total


def _wave(make: _Maker) -> Node:
    """Return waves that are short beside x."""
    draw, terms = make.draw, []
    for i in range(len(make.x)):
        speed = make.number(10.0 ** draw.uniform(0.0, 3.0))
        phase = Node("+", (Node("*", (speed, make.coordinate(i))), make.constant()))
        wave = Node(draw.choice(["sin", "cos"]), (phase,))
        if draw.random() < 0.3:
            wave = Node("*", (wave, make.tree(1)))
        terms.append(Node("*", (make.constant(), wave)))
    return make.sum(terms)


KINDS = {"general": _general, "minimum": _minimum, "even": _even, "edge": _edge, "wave": _wave}
_OFTEN = ["general"] * 8 + ["minimum"] * 3 + ["even"] * 3 + ["edge"] * 4 + ["wave"] * 2


def random_function(draw: Random, kind: str | None = None) -> RandomFunction:
    """Return a random function; equal generators draw equal ones."""
    kind = kind or draw.choice(_OFTEN)
    n = draw.randint(1, 6)
    common = draw.choice([0.0, 0.0, draw.uniform(-12.0, 12.0)])
    mixed = draw.random() < 0.2
    units = [
        float(f"{10.0 ** max(-12.0, min(12.0, common + mixed * draw.uniform(-3.0, 3.0))):.3g}")
        for _ in range(n)
    ]
    if kind == "edge":
        # Exact quotients, or rounding would decide on which side of the edge x is.
        units = [2.0 ** round(math.log2(unit)) for unit in units]
    zeros = 0.5 if kind == "even" else 0.05
    x = [0.0 if draw.random() < zeros else draw.uniform(-2.0, 2.0) * unit for unit in units]
    make = _Maker(draw, x, units)
    tree = KINDS[kind](make)
    if draw.random() < 0.1:
        tree = Node("+", (tree, make.number(float(f"{10.0 ** draw.uniform(0.0, 8.0):.3g}"))))
    if draw.random() < 0.5:
        tree = Node("*", (make.number(float(f"{10.0 ** draw.uniform(-12.0, 12.0):.3g}")), tree))
    found = RandomFunction(tree, np.array(x), np.array(units), kind)
    if not math.isfinite(tree.at) or not np.isfinite(found.gradient).all():
        return random_function(draw, kind)
    return found
