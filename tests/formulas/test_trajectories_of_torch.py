"""Three hundred updates as torch does them: every activation and loss, on every backend here."""

import numpy as np
import pytest

import accelnn
from accelnn.formulas._table import ACTIVATIONS, LOSSES
from accelnn.testing import assert_equal_but_for_rounding

torch = pytest.importorskip("torch", reason="torch is not installed")

UPDATES = 300
SIZES = (5, 7, 6, 3)
THEIR_ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "identity": lambda x: x,
}


def _their_loss(name, a, t):
    functional = torch.nn.functional
    if name == "cross_entropy":
        return functional.cross_entropy(a, t)
    if name == "sum_squared_error":
        return 0.5 * ((a - t) ** 2).sum() / len(a)
    if name == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits(a, t, reduction="sum") / len(a)
    return functional.huber_loss(a, t, reduction="sum") / len(a)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_trajectory(activation, loss, backend):
    draw = np.random.default_rng(3)
    x, t = draw.normal(size=(60, SIZES[0])), draw.uniform(size=(60, SIZES[-1]))
    if loss == "cross_entropy":
        t /= t.sum(axis=1, keepdims=True)
    net = accelnn.MLP(
        SIZES, activation=activation, loss=loss, dtype="float64", rng=0, backend=backend
    )
    start = {name: np.array(value) for name, value in net.params.items()}
    options = {"lr": 0.005, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.03}

    def torch_run(move):
        theirs = {k: torch.tensor(move(v), requires_grad=True) for k, v in start.items()}
        optimizer = torch.optim.AdamW(theirs.values(), **options)
        inputs, targets, losses = torch.tensor(move(x)), torch.tensor(move(t)), []
        for _ in range(UPDATES):
            optimizer.zero_grad()
            a = inputs
            for layer in (1, 2, 3):
                a = a @ theirs[f"W{layer}"] + theirs[f"b{layer}"]
                a = THEIR_ACTIVATIONS[activation](a) if layer < 3 else a
            value = _their_loss(loss, a, targets)
            value.backward()
            losses.append(value.item())
            optimizer.step()
        return [np.array(losses), *(p.detach().numpy() for p in theirs.values())]

    rule = accelnn.AdamW(**options, decay_biases=True)
    history = accelnn.fit(net, x, t, optimizer=rule, batch_size=60, iters=UPDATES, rng=0)
    # Steps in units of gradients that tend to 0 carry on what rounding makes of them.
    assert_equal_but_for_rounding([np.array(history.loss), *net.params.values()], torch_run)
