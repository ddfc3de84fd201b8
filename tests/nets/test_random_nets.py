"""Random nets compute the same on every backend, with ordinary numbers and with extreme ones.

There are 60 of each here. ``pytest tests/nets/test_random_nets.py --nets 2000 -n 2`` takes as many
as one has time for.
"""

import numpy as np
import pytest
from random_nets import EXTREMES, random_net

NETS = 60
BLOCK = 20


def pytest_generate_tests(metafunc):
    if "seeds" in metafunc.fixturenames:
        count = metafunc.config.getoption("--nets", None) or NETS
        blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        metafunc.parametrize("seeds", blocks, ids=[f"{b.start}-{b.stop - 1}" for b in blocks])


def test_a_random_net_is_the_same_on_every_backend(other_backend, seeds):
    faults = []
    for seed in seeds:
        net = random_net(seed)
        try:
            net.assert_agrees(other_backend)
        except AssertionError as error:
            faults.append(f"{seed}: {net}: {error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("kind", EXTREMES)
def test_extreme_numbers_give_one_answer(other_backend, kind, seeds):
    """What is finite is so everywhere, and differs by rounding alone."""
    faults = []
    for seed in seeds[:: len(EXTREMES)] if len(seeds) == BLOCK else seeds:
        net = random_net(seed).with_extremes(kind, seed)
        try:
            with np.errstate(all="ignore"):
                net.assert_agrees_in_extremes(other_backend)
        except AssertionError as error:
            faults.append(f"{seed}: {net}: {error}")
    assert not faults, "\n".join(faults)
