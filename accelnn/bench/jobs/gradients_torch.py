"""PyTorch's gradients."""

from typing import Any

import torch

from accelnn.bench._task import Task
from accelnn.bench.jobs.gradients import STEP, Gradient, Sampled

__all__ = ["Analytic", "Gradcheck"]

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}


class _Torch(Gradient):
    """The net as one flat tensor."""

    def __init__(self, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        super().__init__(task, threads)
        self.parameters = torch.from_numpy(self.flat).requires_grad_()
        self.inputs, self.targets = torch.from_numpy(self.x), torch.from_numpy(self.t)

    def loss(self, flat: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy."""
        shapes = [layer.shape for layer in self.layers]
        w1, b1, w2, b2 = (
            part.view(shape)
            for part, shape in zip(
                flat.split([layer.size for layer in self.layers]), shapes, strict=True
            )
        )
        a = ACTIVATIONS[self.task.activation](self.inputs @ w1 + b1)
        return torch.nn.functional.cross_entropy(a @ w2 + b2, self.targets)


class Analytic(_Torch):
    """Reverse mode."""

    def gradient(self) -> Any:
        """See `Gradient.gradient`."""
        (found,) = torch.autograd.grad(self.loss(self.parameters), self.parameters)
        return [found.numpy()]


class Gradcheck(_Torch, Sampled):
    """`torch.autograd.gradcheck` as a function of some parameters."""

    sample = 500

    def gradient(self) -> Any:
        """See `Gradient.gradient`; gradcheck only returns whether it is right."""
        base, moved = self.parameters.detach(), torch.from_numpy(self.moved)
        values = base[moved].requires_grad_()
        torch.autograd.gradcheck(
            lambda values: self.loss(base.index_put((moved,), values)), values, eps=STEP, atol=1e-6
        )
        return self.exact

    def facts(self) -> dict[str, Any]:
        """Return how much was measured."""
        return {"measured": f"{super().facts()['measured']}, as a function of these alone"}
