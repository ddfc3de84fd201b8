"""PyTorch trains: eagerly, and with the whole step as one compiled graph."""

from typing import Any

import numpy as np
import torch

from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.training import Training, WholeRun
from accelnn.optimizers import Adam, Momentum

__all__ = ["Compiled", "Eager", "WholeEager"]

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}
MODULES = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU}


class _Torch(Training):
    """Data and order of the batches as tensors."""

    def __init__(self, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        super().__init__(task, threads)
        self.x, self.t = torch.from_numpy(self.data.x), torch.from_numpy(self.data.t)
        self.chosen = list(torch.from_numpy(self.order))

    def ready(self, amount: int) -> None:
        """See `Job.ready`."""
        super().ready(amount)
        self.chosen = list(torch.from_numpy(self.order))


class Eager(_Torch):
    """`torch.nn.Sequential` and `torch.optim`: the way that the manual shows."""

    def begin(self) -> None:
        """See `Training.begin`."""
        rule = self.optimizer
        self.net = _sequential(self.task)
        with torch.no_grad():
            for value, first in zip(self.net.parameters(), self.initial, strict=True):
                value.copy_(torch.from_numpy(first.T.copy()))
        # Of the ways to loop over parameters, the fastest here for each.
        if isinstance(rule, Adam):
            self.rule: Any = torch.optim.Adam(
                self.net.parameters(), rule.lr, rule.betas, rule.eps, fused=True
            )
        else:
            momentum = rule.momentum if isinstance(rule, Momentum) else 0.0
            self.rule = torch.optim.SGD(
                self.net.parameters(), rule.lr, momentum=momentum, foreach=False
            )

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        net, rule, x, t = self.net, self.rule, self.x, self.t
        for chosen in self.chosen[first:last]:
            loss = torch.nn.functional.cross_entropy(net(x[chosen]), t[chosen])
            rule.zero_grad()
            loss.backward()
            rule.step()

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [value.detach().numpy().T for value in self.net.parameters()]


class WholeEager(Eager, WholeRun):
    """A whole run."""

    def correct(self, part: str) -> int:
        """See `WholeRun.correct`."""
        x, t = (torch.from_numpy(a) for a in (self.data[:2] if part == "train" else self.data[2:]))
        with torch.inference_mode():
            return int((self.net(x).argmax(dim=1) == t).sum())


class Compiled(_Torch):
    """Gather, forward, backward and update as one function under `torch.compile`."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        self.step = torch.compile(_step_function(self.optimizer, task.activation), dynamic=False)

    def begin(self) -> None:
        """See `Training.begin`."""
        self.net = [torch.from_numpy(layer.copy()) for layer in self.initial]
        self.slots = [[torch.zeros_like(layer) for layer in self.net] for _ in range(2)]
        self.number = torch.zeros((), dtype=self.net[0].dtype)

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        for chosen in self.chosen[first:last]:
            self.step(self.net, self.slots, self.number, self.x, self.t, chosen)

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [np.asarray(layer) for layer in self.net]


def _sequential(task: Task) -> torch.nn.Sequential:
    dtype = getattr(torch, task.dtype)
    modules: list[torch.nn.Module] = []
    for inputs, outputs in zip(task.sizes[:-1], task.sizes[1:], strict=True):
        modules += [torch.nn.Linear(inputs, outputs, dtype=dtype), MODULES[task.activation]()]
    return torch.nn.Sequential(*modules[:-1])


def _step_function(rule: Any, activation: str) -> Any:
    """Return a function that takes one step, in place."""

    def loss(net: list[torch.Tensor], x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        for i in range(0, len(net), 2):
            x = x @ net[i] + net[i + 1]
            if i + 2 < len(net):
                x = ACTIVATIONS[activation](x)
        return torch.nn.functional.cross_entropy(x, t)

    gradient_of = torch.func.grad(loss)

    def step(
        net: list[torch.Tensor],
        slots: list[list[torch.Tensor]],
        number: torch.Tensor,
        x: torch.Tensor,
        t: torch.Tensor,
        chosen: torch.Tensor,
    ) -> None:
        gradient = gradient_of(net, x[chosen], t[chosen])
        number += 1
        for value, grad, slot, second in zip(net, gradient, *slots, strict=True):
            _update(rule, value, grad, slot, second, number)

    return step


def _update(
    rule: Any,
    value: torch.Tensor,
    grad: torch.Tensor,
    slot: torch.Tensor,
    second: torch.Tensor,
    number: torch.Tensor,
) -> None:
    """Move `value` and its state, in place."""
    if isinstance(rule, Adam):
        slot += (1 - rule.betas[0]) * (grad - slot)
        second += (1 - rule.betas[1]) * (grad * grad - second)
        root = torch.sqrt(second / (1 - rule.betas[1] ** number)) + rule.eps
        value -= rule.lr / (1 - rule.betas[0] ** number) * slot / root
    elif isinstance(rule, Momentum):
        slot *= rule.momentum
        slot += grad
        value -= rule.lr * slot
    else:
        value -= rule.lr * grad
