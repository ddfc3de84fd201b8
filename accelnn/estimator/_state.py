"""The state of an estimator in plain arrays, which pickle and skops can write."""

from typing import Any

from accelnn.backends import get_backend
from accelnn.backends._registry import found_again, reference
from accelnn.nets import MLP
from accelnn.nets._net import rebuild
from accelnn.training._resume import Ending

__all__ = ["packed", "unpacked"]


def packed(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator without its net's engine."""
    if "net_" not in state:
        return state
    net, ending = state["net_"], state["_ending"]
    home = reference(net.backend)
    packed_net = (net.spec, net.backend.to_numpy(net.flat), net.dtype, *home)
    # Without the backend of its arrays, which are brought to the host.
    packed_ending = None if ending is None else ending.__reduce__()[1][:-1]
    return state | {"net_": packed_net, "_ending": packed_ending}


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """Return what was packed."""
    if "net_" not in state:
        return state
    spec, flat, dtype, *home = state["net_"]
    net = rebuild(MLP, spec, flat, dtype, found_again(*home))
    ending = state["_ending"]
    if ending is not None:
        arguments = [*ending, get_backend("numpy")]
        ending = Ending(*arguments)
    return state | {"net_": net, "_ending": ending}
