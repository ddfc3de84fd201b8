"""PyTorch: eager, as a captured CUDA graph, and with the update compiled; its gradients."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from accelnn.bench._case import Case
from accelnn.bench.contestants import plain
from accelnn.bench.contestants.base import Lazy, contestant
from accelnn.bench.contestants.gradients import OF_SOME, STEP, Gradient
from accelnn.bench.contestants.training import Training, scores, update
from accelnn.optimizers import Adam

__all__ = ["Compiled", "Eager", "Graph"]

torch: Any = Lazy("torch")


class _Torch(Training):
    """Data and order of the batches as tensors on the device."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        self.on_gpu = case.device == "cuda"
        if self.on_gpu:
            if not torch.cuda.is_available():
                version = torch.version.__version__
                msg = f"torch {version} finds no CUDA device: install a build for CUDA"
                raise ImportError(msg)
            self.events = "torch"
        super().__init__(case, threads)
        x, t, *test = map(self.place, self.data)
        self.x, self.t = x, t
        self.parts = {"train": (x, t), "test": tuple(test)}
        self.data = ()
        self.lay_out()

    def place(self, array: np.ndarray) -> Any:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.case.device)

    def lay_out(self) -> None:
        self.rows = self.place(self.order)
        self.chosen = list(self.rows)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def accuracy(self, part: str) -> float:
        x, t = self.parts[part]
        with torch.inference_mode():
            return int((self.scores(x).argmax(dim=1) == t).sum()) / len(t)

    def scores(self, x: Any) -> Any:
        """Return the scores of some samples."""
        raise NotImplementedError


@contestant(
    "torch eager",
    *("training", "growth", "whole-run", "to-98", "gpu-training", "gpu-whole-run"),
    needs="torch",
)
class Eager(_Torch):
    """`torch.nn.Sequential` and `torch.optim`, as in the PyTorch tutorials."""

    def begin(self) -> None:
        nn, rule, dtype = torch.nn, self.optimizer, getattr(torch, self.case.dtype)
        activation = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[self.case.activation]
        modules: list[Any] = []
        for inputs, outputs in pairwise(self.case.sizes):
            modules += [nn.Linear(inputs, outputs, dtype=dtype), activation()]
        self.net = nn.Sequential(*modules[:-1]).to(self.case.device)
        self.reset()
        own = {"params": self.net.parameters(), "lr": rule.lr}
        # The fastest loop over parameters here for each optimiser.
        if isinstance(rule, Adam):
            self.rule = torch.optim.Adam(**own, betas=rule.betas, eps=rule.eps, fused=True)
        else:
            momentum = getattr(rule, "momentum", 0.0)
            self.rule = torch.optim.SGD(**own, momentum=momentum, foreach=False, fused=self.on_gpu)

    def reset(self) -> None:
        """Set the initial weights."""
        with torch.no_grad():
            for value, first in zip(self.net.parameters(), self.initial, strict=True):
                value.copy_(torch.from_numpy(first.T.copy()))

    def advance(self, first: int, last: int) -> None:
        self.take(self.chosen[first:last])

    def take(self, batches: Iterable[Any]) -> None:
        """Do an update for each batch."""
        net, rule, x, t = self.net, self.rule, self.x, self.t
        cross_entropy = torch.nn.functional.cross_entropy
        for chosen in batches:
            loss = cross_entropy(net(x[chosen]), t[chosen])
            rule.zero_grad()
            loss.backward()
            rule.step()

    def layers(self) -> plain.Layers:
        return [value.detach().cpu().numpy().T for value in self.net.parameters()]

    def scores(self, x: Any) -> Any:
        return self.net(x)


@contestant("torch CUDA graph", "gpu-training", "gpu-whole-run", needs="torch")
class Graph(Eager):
    """Eager updates captured in CUDA graphs: one of many updates, and one for the remainder.

    A graph reads its batches from where they were when it was recorded. A run begins with the first
    weights but not with a new optimiser, so that this is right for one without a state, as SGD is.
    """

    RECORDED = 100
    # Updates before the capture, in which libraries allocate their workspaces.
    WARM_UP = 3

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        self.granule = self.RECORDED if case.do == "steps" else 1
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
        self.reset()

    def advance(self, first: int, last: int) -> None:
        while first < last:
            steps = self.RECORDED if last - first >= self.RECORDED else 1
            self.window[:steps].copy_(self.rows[first : first + steps])
            self.replay[steps]()
            first += steps


@contestant("torch compiled", "training", "growth", "to-98", "gpu-training", needs="torch")
class Compiled(_Torch):
    """Gather, forward, backward and update as one function under `torch.compile`."""

    def __init__(self, case: Case, threads: int) -> None:
        super().__init__(case, threads)
        mode = "reduce-overhead" if self.on_gpu else None
        # A process makes one for each case, and of the ninth nothing would be compiled.
        torch._dynamo.reset()  # noqa: SLF001 - as in torch's documentation
        gradient_of = torch.func.grad(_loss_function(case.activation))
        rule, root_of = self.optimizer, torch.sqrt

        def step(net: Any, slots: Any, number: Any, x: Any, t: Any, chosen: Any) -> None:
            gradient = gradient_of(net, x[chosen], t[chosen])
            number += 1
            for value, grad, slot, second in zip(net, gradient, *slots, strict=True):
                update(rule, root_of, value, grad, slot, second, number)

        self.step = torch.compile(step, dynamic=False, mode=mode)
        self.net = [self.place(layer.copy()) for layer in self.initial]
        self.slots = [[torch.zeros_like(layer) for layer in self.net] for _ in range(2)]
        self.number = self.net[0].new_zeros(())
        if self.on_gpu:
            # Otherwise every step copies the data set, and no graph is made of one that changes
            # weights.
            for tensor in (self.x, self.t, self.number, *self.net, *self.slots[0], *self.slots[1]):
                torch._dynamo.mark_static_address(tensor)  # noqa: SLF001 - its only address

    def begin(self) -> None:
        for value, first in zip(self.net, self.initial, strict=True):
            value.copy_(self.place(first))
        for tensor in (self.number, *self.slots[0], *self.slots[1]):
            tensor.zero_()

    def advance(self, first: int, last: int) -> None:
        for chosen in self.chosen[first:last]:
            self.step(self.net, self.slots, self.number, self.x, self.t, chosen)

    def layers(self) -> plain.Layers:
        return [layer.cpu().numpy() for layer in self.net]

    def scores(self, x: Any) -> Any:
        return scores(self.net, x, getattr(torch, self.case.activation))


def _loss_function(activation: str) -> Any:
    activate, cross_entropy = getattr(torch, activation), torch.nn.functional.cross_entropy
    return lambda net, x, t: cross_entropy(scores(net, x, activate), t)


def _flat_net(problem: Gradient) -> tuple[Any, Callable[[Any], Any]]:
    """Return the parameters as one tensor, and the loss as a function of it."""
    torch.set_num_threads(problem.threads)
    x, t = torch.from_numpy(problem.x), torch.from_numpy(problem.t)
    loss_of, layers = _loss_function(problem.case.activation), problem.layers

    def loss(flat: Any) -> Any:
        parts = flat.split([layer.size for layer in layers])
        net = [part.view(layer.shape) for part, layer in zip(parts, layers, strict=True)]
        return loss_of(net, x, t)

    return torch.from_numpy(problem.flat), loss


@contestant("torch analytic", "gradient", "scaling", kind=Gradient, needs="torch")
def analytic(problem: Gradient) -> Callable[[], Any]:
    """Return reverse mode."""
    flat, loss = _flat_net(problem)
    flat.requires_grad_()
    return lambda: [found.numpy() for found in torch.autograd.grad(loss(flat), flat)]


@contestant("torch gradcheck", "gradient", kind=Gradient, needs="torch")
def gradcheck(problem: Gradient) -> Callable[[], Any]:
    """Return `torch.autograd.gradcheck`, which tells only whether a gradient is right."""
    flat, loss = _flat_net(problem)
    moved = torch.from_numpy(problem.sample(500, OF_SOME))

    def check() -> None:
        values = flat[moved].requires_grad_()
        torch.autograd.gradcheck(
            lambda values: loss(flat.index_put((moved,), values)), values, eps=STEP, atol=1e-6
        )

    return check
