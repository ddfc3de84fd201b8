"""Training with PyTorch: eager, as a captured CUDA graph, and with the update compiled."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from accelnn.bench._task import Task
from accelnn.bench.jobs import plain
from accelnn.bench.jobs.clocks import TORCH_EVENTS
from accelnn.bench.jobs.training import Training, WholeRun
from accelnn.optimizers import Adam, Momentum

__all__ = ["Compiled", "Eager", "Graph", "WholeEager", "WholeGraph"]

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}
MODULES = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU}


class _Torch(Training):
    """Data and order of the batches as tensors on the device."""

    def __init__(self, task: Task, threads: int) -> None:
        torch.set_num_threads(threads)
        super().__init__(task, threads)
        self.on_gpu = task.device == "cuda"
        if self.on_gpu:
            _require_cuda()
            self.clock = TORCH_EVENTS
        self.x, self.t = self.place(self.data.x), self.place(self.data.t)
        self.lay_out()

    def place(self, array: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.task.device)

    def ready(self, amount: int) -> None:
        """See `Job.ready`."""
        super().ready(amount)
        self.lay_out()

    def lay_out(self) -> None:
        """Place the order of the batches, whole and one by one."""
        self.rows = self.place(self.order)
        self.chosen = list(self.rows)

    def wait(self) -> None:
        """See `Training.wait`."""
        if self.on_gpu:
            torch.cuda.synchronize()


class Eager(_Torch):
    """`torch.nn.Sequential` and `torch.optim`, as in the PyTorch tutorials."""

    def begin(self) -> None:
        """See `Training.begin`."""
        rule = self.optimizer
        self.net = _sequential(self.task).to(self.task.device)
        self.reset()
        # The fastest loop over parameters here for each optimiser.
        if isinstance(rule, Adam):
            self.rule: Any = torch.optim.Adam(
                self.net.parameters(), rule.lr, rule.betas, rule.eps, fused=True
            )
        else:
            momentum = rule.momentum if isinstance(rule, Momentum) else 0.0
            self.rule = torch.optim.SGD(
                self.net.parameters(),
                rule.lr,
                momentum=momentum,
                foreach=False,
                fused=self.on_gpu,
            )

    def reset(self) -> None:
        """Set the initial weights."""
        with torch.no_grad():
            for value, first in zip(self.net.parameters(), self.initial, strict=True):
                value.copy_(torch.from_numpy(first.T.copy()))

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        self.take(self.chosen[first:last])

    def take(self, batches: Iterable[torch.Tensor]) -> None:
        """Do an update for each batch."""
        net, rule, x, t = self.net, self.rule, self.x, self.t
        for chosen in batches:
            loss = torch.nn.functional.cross_entropy(net(x[chosen]), t[chosen])
            rule.zero_grad()
            loss.backward()
            rule.step()

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [value.detach().cpu().numpy().T for value in self.net.parameters()]


class WholeEager(Eager, WholeRun):
    """A whole run."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        test = (self.place(self.data.x_test), self.place(self.data.t_test))
        self.parts = {"train": (self.x, self.t), "test": test}

    def correct(self, part: str) -> int:
        """See `WholeRun.correct`."""
        x, t = self.parts[part]
        with torch.inference_mode():
            return int((self.net(x).argmax(dim=1) == t).sum())


class Graph(Eager):
    """Eager updates captured in CUDA graphs: one of many updates, and one for the remainder.

    A graph reads its batches from where they were when it was recorded. A run begins with the first
    weights but not with a new optimiser, so that this is right for one without a state, as SGD is.
    """

    RECORDED = granule = 100
    # Updates before the capture, in which libraries allocate their workspaces.
    WARM_UP = 3

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        super().begin()
        self.window = self.rows[:1].repeat(self.RECORDED, 1)
        self.replay = {n: self.record(n) for n in (self.RECORDED, 1)}

    def record(self, steps: int) -> Callable[[], object]:
        """Return a graph of that many updates, on the first batches of the window."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.take(self.window[: self.WARM_UP])
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        self.rule.zero_grad()
        with torch.cuda.graph(graph):
            self.take(self.window[:steps])
        replay: Callable[[], object] = graph.replay
        return replay

    def begin(self) -> None:
        """See `Training.begin`."""
        self.reset()

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        while first < last:
            steps = self.RECORDED if last - first >= self.RECORDED else 1
            self.window[:steps].copy_(self.rows[first : first + steps])
            self.replay[steps]()
            first += steps


class WholeGraph(Graph, WholeEager):
    """A whole run."""

    granule = 1


class Compiled(_Torch):
    """Gather, forward, backward and update as one function under `torch.compile`."""

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        step = _step_function(self.optimizer, task.activation)
        mode = "reduce-overhead" if self.on_gpu else None
        self.step = torch.compile(step, dynamic=False, mode=mode)
        self.net = [self.place(layer.copy()) for layer in self.initial]
        self.slots = [[torch.zeros_like(layer) for layer in self.net] for _ in range(2)]
        self.number = self.net[0].new_zeros(())
        if self.on_gpu:
            self.keep_in_place()

    def keep_in_place(self) -> None:
        """Promise that tensors keep their addresses.

        Otherwise every step copies the data set, and no graph is made of one that changes weights.
        """
        from torch._dynamo import mark_static_address

        for tensor in (self.x, self.t, self.number, *self.net, *self.slots[0], *self.slots[1]):
            mark_static_address(tensor)

    def begin(self) -> None:
        """See `Training.begin`."""
        for value, first in zip(self.net, self.initial, strict=True):
            value.copy_(torch.from_numpy(first))
        for tensor in (self.number, *self.slots[0], *self.slots[1]):
            tensor.zero_()

    def advance(self, first: int, last: int) -> None:
        """See `Training.advance`."""
        for chosen in self.chosen[first:last]:
            self.step(self.net, self.slots, self.number, self.x, self.t, chosen)

    def layers(self) -> plain.Layers:
        """See `Training.layers`."""
        return [layer.cpu().numpy() for layer in self.net]


def _require_cuda() -> None:
    if not torch.cuda.is_available():
        msg = f"torch {torch.__version__} finds no CUDA device: install a build for CUDA"
        raise ImportError(msg)


def _sequential(task: Task) -> torch.nn.Sequential:
    dtype = getattr(torch, task.dtype)
    modules: list[torch.nn.Module] = []
    for inputs, outputs in zip(task.sizes[:-1], task.sizes[1:], strict=True):
        modules += [torch.nn.Linear(inputs, outputs, dtype=dtype), MODULES[task.activation]()]
    return torch.nn.Sequential(*modules[:-1])


def _step_function(rule: Any, activation: str) -> Any:
    """Return a function that does one update in place."""

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
    """Update `value` and its state in place."""
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
