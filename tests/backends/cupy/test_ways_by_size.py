"""Which way a net is trained, by its size and that of a batch, and by the device."""

import pytest
from stand_in_arrays import Device

import accelnn
from accelnn.backends.cupy import engine as engine_module
from accelnn.backends.cupy.engine import CupyEngine
from accelnn.backends.cupy.source import MOST_TILED_LAYERS

pytestmark = pytest.mark.cuda_on_cpu


@pytest.mark.parametrize(
    ("sizes", "batch", "way"),
    [
        ((784, 50, 10), 10, "one launch"),
        ((784, 50, 10), 50, "graph"),
        ((784, 50, 10), 100, "tiles"),
        ((784, 50, 10), 1_000, "tiles"),
        ((784, 50, 10), 10_000, "tiles"),
        ((784, 256, 128, 10), 100, "tiles"),
        ((784, 50, 300), 10, "one launch"),
        ((784, 50, 300), 1_000, "graph"),
        ((784, 1_000, 1_000, 10), 100, "tiles"),
        ((784, 1_000, 1_000, 10), 1_000, "products"),
    ],
)
def test_the_way_is_chosen_by_size(log, device, sizes, batch, way):
    assert log == []
    engine = accelnn.MLP(sizes, rng=0, backend=device).engine
    assert isinstance(engine, CupyEngine)
    assert engine.describe(batch).startswith(way)


@pytest.mark.parametrize(
    ("sizes", "batch", "memory", "way"),
    [
        ((784, 50, 10), 100, 232_448, "resident"),
        ((784, 256, 10), 100, 232_448, "resident"),
        ((784, 50, 10), 100, 101_376, "resident"),
        ((784, 50, 10), 1_000, 232_448, "tiles"),
        # It would fit, but a block would have 19 samples.
        ((32, 64, 10), 2_000, 232_448, "tiles"),
        ((784, 50, 33), 100, 232_448, "tiles"),
        ((784, 256, 128, 10), 100, 232_448, "tiles"),
        ((784, 10), 100, 232_448, "one launch"),
    ],
)
def test_a_net_is_kept_where_it_fits(log, device, large_memory, sizes, batch, memory, way):
    del large_memory
    Device.attributes = Device.attributes | {"MaxSharedMemoryPerBlockOptin": memory}
    assert log == []
    engine = accelnn.MLP(sizes, rng=0, backend=device).engine
    assert engine.describe(batch).startswith(way)


@pytest.mark.parametrize(
    ("batch", "way"), [(10, "one launch"), (100, "graph"), (1_000, "graph"), (10_000, "products")]
)
def test_dropout_is_neither_in_tiles_nor_in_a_kept_net(log, device, large_memory, batch, way):
    del large_memory
    assert log == []
    engine = accelnn.MLP((784, 50, 10), dropout=0.5, rng=0, backend=device).engine
    assert engine.describe(batch).startswith(way)


def test_a_net_is_not_kept_by_a_card_before_volta(log, device, large_memory):
    """Its kernel exchanges words by instructions that came with compute capability 7.0."""
    del large_memory
    sizes = {"MaxSharedMemoryPerBlockOptin": 232_448, "ComputeCapabilityMajor": 6}
    Device.attributes = Device.attributes | sizes
    assert log == []
    engine = accelnn.MLP((784, 50, 10), rng=0, backend=device).engine
    assert engine.describe(100).startswith("tiles")


def test_a_net_of_very_many_layers_is_not_trained_in_tiles(log, device, monkeypatch):
    monkeypatch.setattr(engine_module, "TRAINED_IN_TILES", 0)
    monkeypatch.setattr(engine_module, "TILED", 0)
    assert log == []
    for layers, way in ((MOST_TILED_LAYERS, "tiles"), (MOST_TILED_LAYERS + 1, "graph")):
        engine = accelnn.MLP([3] * (layers + 1), rng=0, backend=device).engine
        assert engine.describe(10).startswith(way)
