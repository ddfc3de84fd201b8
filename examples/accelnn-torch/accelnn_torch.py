"""PyTorch as a backend of accelnn."""

import importlib.util
import sys

from accelnn import Backend
from accelnn.errors import BackendUnavailableError


class TorchBackend(Backend):
    """The portable ops on torch's tensors, by default in host memory."""

    name = "torch"

    def __init__(self, device="cpu"):
        self.check_available()
        import array_api_compat.torch

        self.xp, self.device = array_api_compat.torch, device

    @classmethod
    def check_available(cls):
        if importlib.util.find_spec("torch") is None:
            msg = "the torch backend needs PyTorch; install it with:\n\n    pip install torch\n"
            raise BackendUnavailableError(msg, reason="not installed")

    @classmethod
    def owns(cls, x):
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(x, torch.Tensor)

    def to_numpy(self, x):
        return x.detach().cpu().numpy()

    def check_owned(self, x, name="x"):
        super().check_owned(x, name)
        if self.owns(x) and x.requires_grad:
            msg = f"{name} records gradients, and accelnn computes its own: pass {name}.detach()"
            raise TypeError(msg)
