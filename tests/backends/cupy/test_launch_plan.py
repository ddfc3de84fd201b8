"""What the CuPy engine asks of the device, recorded by the stand-in: kernels, grids, copies."""

import numpy as np
import pytest
from stand_in_arrays import CALLS, PROCESSORS, Device
from stand_in_streams import Capture, Launch, Product, Replay, Transfer

import accelnn
from accelnn.backends import TrainingState
from accelnn.backends.cupy import engine as engine_module
from accelnn.backends.cupy.launch import FLAGS
from accelnn.errors import DivergenceWarning
from accelnn.testing import assert_equal_but_for_rounding
from accelnn.training import _hints
from accelnn.training._plan import Orders

pytestmark = pytest.mark.cuda_on_cpu


@pytest.fixture(autouse=True)
def without_hints(monkeypatch):
    """Runs that learn nothing are looked at when they are over, which is not of the plan."""
    monkeypatch.setattr(_hints, "LEAST", 10**9)


@pytest.fixture
def without_cooperative_launch(log):
    assert log == []
    Device.attributes = Device.attributes | {"CooperativeLaunch": 0}


@pytest.fixture
def always_products(monkeypatch):
    monkeypatch.setattr(engine_module, "LARGE_BATCH", 0)
    monkeypatch.setattr(engine_module, "PRODUCTS", 0)


@pytest.fixture
def small_device(large_memory, monkeypatch):
    """Have no more threads than a processor can be all of at once."""
    del large_memory
    Device.attributes = Device.attributes | {"MultiProcessorCount": 4}
    monkeypatch.setattr(engine_module, "THREADS", 32)


def _digits(samples, inputs=6):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (samples, inputs)).astype(np.float32)
    return pixels / np.float32(255), draw.integers(0, 3, samples)


def _fit(device, sizes=(6, 5, 3), samples=70, dtype="float32", dropout=0.0, **options):
    net = accelnn.MLP(sizes, rng=0, backend=device, dtype=dtype, dropout=dropout)
    x, t = _digits(samples, sizes[0])
    data = accelnn.prepare(x, t, backend=device, dtype=dtype)
    device.xp.events.clear()
    history = accelnn.fit(net, data, rng=0, **({"batch_size": 10, "epochs": 1} | options))
    return net, history


def _kernels(log):
    return [event.name for event in log if isinstance(event, Launch)]


def _copies(log):
    """Return all copies but those of single numbers and of the labels, which are checked."""
    copies = [event for event in log if isinstance(event, Transfer) and event.size > 8]
    return copies[1:]


def test_an_epoch_is_one_cooperative_launch(log, device):
    _, history = _fit(device, epochs=2)
    assert history.steps == 14
    assert _kernels(log) == ["check_parameters", "train", "mean_losses"] * 2
    train = next(event for event in log if _is(event, "train"))
    assert train == Launch("train", 10, 32, is_cooperative=True, device=0)


def test_an_epoch_is_two_copies(log, device):
    """Its order to the device, and the loss of every step back."""
    _fit(device, epochs=2)
    assert _copies(log) == [Transfer("device", 8 * 70), Transfer("host", 8 * 7)] * 2


def test_a_second_epoch_asks_cupy_for_no_more_than_it_needs(log, device):
    """Memory is kept, and each function of CuPy costs the host some microseconds."""
    net = accelnn.MLP([6, 5, 3], rng=0, backend=device)
    data = accelnn.prepare(*_digits(70), backend=device)
    state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", device)
    for _ in "12":
        log.clear()
        CALLS.clear()
        net.engine.train(state, data, np.arange(70), 10)
    assert CALLS == ["asarray", "fill", "check_parameters", "train", "mean_losses", "asnumpy"]


def test_what_adam_divides_by_goes_with_the_order(log, device):
    _fit(device, optimizer=accelnn.Adam())
    assert _copies(log) == [
        Transfer("device", 8 * 70),
        Transfer("device", 8 * 3 * 7),
        Transfer("host", 8 * 7),
    ]


def test_rates_of_a_schedule_go_with_the_order(log, device):
    _fit(device, optimizer=accelnn.SGD(accelnn.schedules.cosine(0.1, 14)), epochs=2)
    assert _kernels(log) == ["check_parameters", "train", "mean_losses"] * 2
    copies = [Transfer("device", 8 * 70), Transfer("device", 8 * 3 * 7), Transfer("host", 8 * 7)]
    assert _copies(log) == copies * 2


def test_weights_of_samples_are_copied_once(log, device):
    _fit(device, sample_weight=np.linspace(0.0, 2.0, 70), epochs=3)
    assert _kernels(log) == ["check_parameters", "train", "mean_losses"] * 3
    own = [Transfer("device", 4 * 70)]
    epochs = [Transfer("device", 8 * 70), Transfer("host", 8 * 7)] * 3
    # In the end the host looks at some of them, to judge the run by.
    assert _copies(log)[:-1] == own + epochs


def test_dropout_is_told_the_numbers_of_updates(log, device):
    """A word of four bytes each; masks are drawn where they are used."""
    _fit(device, dropout=0.3, epochs=2)
    assert _kernels(log) == ["check_parameters", "train", "mean_losses"] * 2
    copies = [Transfer("device", 8 * 70), Transfer("device", 4 * 7), Transfer("host", 8 * 7)]
    assert _copies(log) == copies * 2


def test_a_clipped_step_is_a_graph_of_four_kernels(log, device):
    """Without a copy of the norm to the host."""
    _fit(device, samples=640, epochs=2, clip_norm=1.0, dropout=0.3)
    step = ("batch_errors", "batch_gradient", "gradient_squares", "update_parameters")
    assert [event for event in log if isinstance(event, Capture)] == [Capture(step * 32)]
    replays = [event for event in log if isinstance(event, Replay)]
    assert replays == [Replay(128)] * 4
    assert _kernels(log) == ["check_parameters", "mean_losses"] * 2
    hosts = [event for event in _copies(log) if event.to == "host"]
    assert hosts == [Transfer("host", 8 * 64)] * 2


@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"dropout": 0.3}], ids=str)
def test_what_neither_tiles_nor_a_kept_net_can_do(log, device, small_device, monkeypatch, options):
    del small_device
    monkeypatch.setattr(engine_module, "TILED", 0)
    monkeypatch.setattr(engine_module, "TRAINED_IN_TILES", 0)
    _fit(device, **options)
    assert not {"train_resident", "train_tiles"}.intersection(_kernels(log))
    assert "batch_errors" in _kernels(log)


def test_the_next_epoch_is_drawn_before_the_device_is_waited_for(log, device, monkeypatch):
    draw_ahead = Orders.draw_ahead

    def drawing(orders):
        log.append("drawn")
        draw_ahead(orders)

    monkeypatch.setattr(Orders, "draw_ahead", drawing)
    _fit(device, epochs=2)
    epoch = [event for event in log[-8:] if not isinstance(event, Launch)]
    assert epoch[-3:] == [Transfer("device", 8 * 70), "drawn", Transfer("host", 8 * 7)]


def test_the_grid_fills_the_device_where_there_is_work_for_it(log, device, monkeypatch):
    monkeypatch.setattr(engine_module, "TILED", 1 << 60)
    net = accelnn.MLP([784, 50, 10], rng=0, backend=device)
    data = accelnn.prepare(*_digits(200, 784), backend=device)
    log.clear()
    accelnn.fit(net, data, batch_size=100, epochs=1, rng=0)
    # 50 columns by 98 parts of sums are more than the 896 threads that the registers allow; and
    # 39,760 sums of 13 parts are more than those threads of 132 blocks.
    train = next(event for event in log if _is(event, "train"))
    assert train == Launch("train", PROCESSORS, 896, is_cooperative=True, device=0)


def test_a_net_that_fits_is_kept_by_the_kernel(log, device, small_device):
    del small_device
    net, history = _fit(device, epochs=2)
    assert history.steps == 14
    assert _kernels(log) == ["train_resident", "mean_losses"] * 2
    train = next(event for event in log if _is(event, "train_resident"))
    assert train == Launch("train_resident", 4, 32, is_cooperative=True, device=0)
    assert _copies(log) == [Transfer("device", 8 * 70), Transfer("host", 8 * 7)] * 2
    assert "resident" in net.engine.describe(10)


@pytest.mark.parametrize(
    "optimizer",
    [
        accelnn.SGD(0.1),
        accelnn.Adam(0.01),
        accelnn.SGD(accelnn.schedules.cosine(0.1, 15)),
        accelnn.AdamW(accelnn.schedules.cosine(0.01, 15), weight_decay=0.1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kept_net_comes_to_what_numpy_comes_to(
    log, device, small_device, monkeypatch, dtype, optimizer
):
    """Batches of which the last is short, in launches that are shorter than an epoch."""
    del small_device
    monkeypatch.setattr(engine_module, "CALL_STEPS", 2)
    assert log == []
    x, t = _digits(47)

    def run(backend, move):
        net = accelnn.MLP([6, 5, 3], dtype=dtype, rng=0, backend=backend)
        net.flat[...] = backend.asarray(move(backend.to_numpy(net.flat)))
        history = accelnn.fit(
            net,
            move(x.astype(dtype)),
            t,
            optimizer=move(optimizer),
            batch_size=10,
            epochs=3,
            rng=0,
        )
        return [history.loss, backend.to_numpy(net.flat)]

    numpy = accelnn.get_backend("numpy")
    found = run(device, lambda value: value)
    assert "train_resident" in _kernels(log)
    assert_equal_but_for_rounding(found, lambda move: run(numpy, move), dtype=dtype)


def test_a_kept_net_stops_where_its_loss_is_not_finite(log, device, small_device):
    del small_device
    assert log == []
    x, t = _digits(40)
    options = {"optimizer": accelnn.SGD(1e30), "batch_size": 10, "epochs": 1, "rng": 0}
    losses = []
    for backend in ("numpy", device):
        net = accelnn.MLP([6, 5, 3], loss="sum_squared_error", rng=0, backend=backend)
        with np.errstate(all="ignore"), pytest.warns(DivergenceWarning):
            losses.append(accelnn.fit(net, x, np.eye(3, dtype=np.float32)[t], **options).loss)
    assert len(losses[0]) == len(losses[1]) < 4
    assert np.isfinite(losses[1][:-1]).all()
    assert not np.isfinite(losses[1][-1])


def test_a_kept_net_that_stops_has_no_losses_of_the_call_before(log, device, small_device):
    del small_device
    net = accelnn.MLP([6, 5, 3], loss="sum_squared_error", rng=0, backend=device)
    x, t = _digits(70)
    data = accelnn.prepare(x, np.eye(3, dtype=np.float32)[t], backend=device)
    state = TrainingState(net.flat, accelnn.SGD(0.1), "analytic", device)
    log.clear()
    for rate, stops in ((0.01, False), (1e30, True)):
        found = net.engine.train(state, data, np.arange(70), 10, rates=np.full(7, rate))
        assert np.isfinite(found[:-1]).all()
        assert np.isfinite(found[-1]) == (not stops)
        assert (len(found) < 7) == stops
    assert "train_resident" in _kernels(log)


def test_a_graph_is_captured_once_and_replayed(log, device, without_cooperative_launch):
    del without_cooperative_launch
    net, _ = _fit(device, samples=700, epochs=2)
    captures = [event for event in log if isinstance(event, Capture)]
    assert captures == [Capture(("batch_errors", "batch_update") * 32)]
    # 70 steps are two times 32, and six that go one by one.
    replays = [event for event in log if isinstance(event, Replay)]
    assert replays == [Replay(64)] * 4
    one_by_one = ["batch_errors", "batch_update"] * 6
    assert _kernels(log) == ["check_parameters", *one_by_one, "mean_losses"] * 2
    assert log.index(captures[0]) < log.index(replays[0])
    assert "graph" in net.engine.describe()


def test_steps_of_a_graph_share_all_buffers_but_those_of_their_batch(
    log, device, without_cooperative_launch
):
    del without_cooperative_launch
    _fit(device, samples=320)
    assert any(isinstance(event, Capture) for event in log)
    captured = [places for name, places in device.xp.buffers if name == "batch_errors"]
    params, flags, sizes, x, t, order, values, errors, losses = captured[0]
    # Ten samples of a step: their rows, and a loss of each.
    assert captured == [
        [params, flags, sizes, x, t, order + 80 * i, values, errors, losses + 80 * i]
        for i in range(32)
    ]


def test_epochs_share_what_they_write_to(log, device):
    _fit(device, epochs=3)
    assert log
    first, *others = [places for name, places in device.xp.buffers if name == "train"]
    for places in others:
        # Parameters, the place of both slots that SGD has not, flags; and the trace.
        assert places[:4] == first[:4]
        assert places[-3:-1] == first[-3:-1]


def test_another_batch_size_is_another_graph(log, device, without_cooperative_launch):
    del without_cooperative_launch
    net = accelnn.MLP([6, 5, 3], rng=0, backend=device)
    data = accelnn.prepare(*_digits(66), backend=device)
    accelnn.fit(net, data, batch_size=2, epochs=1, rng=0)
    accelnn.fit(net, data, batch_size=1, iters=32, rng=0)
    assert sum(isinstance(event, Capture) for event in log) == 2


def test_steps_of_tiles_are_one_launch(log, device, monkeypatch):
    monkeypatch.setattr(engine_module, "TILED", 0)
    monkeypatch.setattr(engine_module, "TRAINED_IN_TILES", 0)
    net, history = _fit(device, sizes=(6, 5, 4, 3), samples=337, epochs=2)
    assert history.steps == 68
    assert _kernels(log) == ["train_tiles", "mean_losses"] * 2
    copies = [Transfer("device", 8 * 337), Transfer("host", 8 * 34)] * 2
    # How sums are split, three numbers of each layer.
    assert _copies(log) == [Transfer("device", 4 * 3 * 3), *copies]
    train = next(event for event in log if _is(event, "train_tiles"))
    assert train == Launch("train_tiles", PROCESSORS, 512, is_cooperative=True, device=0)
    assert "tiles" in net.engine.describe(10)


def test_sums_of_few_tiles_are_cut_into_parts(log, device):
    """So that all multiprocessors have some: 140 samples are three tiles of 64 and less."""
    net = accelnn.MLP([784, 50, 10], rng=0, backend=device)
    x, t = map(device.asarray, _digits(140, 784))
    data = accelnn.prepare(x, t, backend=device)
    log.clear()
    net.engine.evaluate(net.flat, data)
    assert [event for event in log if isinstance(event, Launch)] == [
        Launch("check_call", PROCESSORS, 256, is_cooperative=False, device=0),
        Launch("tile_values", 72, 512, is_cooperative=False, device=0),
        Launch("tile_join", 28, 256, is_cooperative=False, device=0),
        Launch("tile_values", 6, 512, is_cooperative=False, device=0),
        Launch("tile_join", 6, 256, is_cooperative=False, device=0),
        Launch("tile_hits", 1, 256, is_cooperative=False, device=0),
        Launch("mean_losses", 2, 128, is_cooperative=False, device=0),
    ]


@pytest.mark.parametrize("samples", [PROCESSORS, PROCESSORS + 1])
def test_a_few_samples_have_a_block_each(log, device, samples):
    net = accelnn.MLP([784, 100, 10], rng=0, backend=device)
    x, t = map(device.asarray, _digits(samples, 784))
    log.clear()
    net.loss(x, t)
    assert ("evaluate" in _kernels(log)) == (samples == PROCESSORS)
    assert ("tile_values" in _kernels(log)) == (samples > PROCESSORS)


def test_a_step_of_products(log, device, always_products):
    del always_products
    net, _ = _fit(device, sizes=(6, 5, 4, 3), samples=8, batch_size=8)
    first = next(i for i, event in enumerate(log) if _is(event, "gather_rows"))
    step = [event.name if isinstance(event, Launch) else event for event in log[first:-2]]
    assert step == [
        "gather_rows",
        Product(8, 6, 5),
        "hidden_values",
        Product(8, 5, 4),
        "hidden_values",
        Product(8, 4, 3),
        "output_errors",
        Product(4, 8, 3),
        Product(1, 8, 3),
        Product(8, 3, 4),
        "hidden_errors",
        Product(5, 8, 4),
        Product(1, 8, 4),
        Product(8, 4, 5),
        "hidden_errors",
        Product(6, 8, 5),
        Product(1, 8, 5),
        "update_parameters",
    ]
    assert "cuBLAS" in net.engine.describe()


def _is(event, name):
    return isinstance(event, Launch) and event.name == name


FLAGS_TO_HOST = Transfer("host", 4 * FLAGS)


def test_a_gradient_copies_flags_and_nothing_else(log, device):
    net = accelnn.MLP([6, 5, 3], rng=0, backend=device)
    x, t = map(device.asarray, _digits(20))
    log.clear()
    net.gradient(x, t)
    # What the host waits for is launched before what takes time.
    copy = log.pop(1)
    assert copy == FLAGS_TO_HOST
    assert _kernels(log) == ["check_call", "batch_errors", "batch_gradient"]
    assert len(log) == 3


LOOKED_AT = ["ascontiguousarray", "empty", "ascontiguousarray", "zeros", "check_call"]
VIEWS = ["getitem", "reshape", "getitem"] * 2
EVALUATED = ["empty", "empty", "getitem", "evaluate", "empty", "mean_losses", "asnumpy"]
# Each function, method and operator of CuPy that a call asks for, however short.
CALLED = {
    "numerical_gradient": [
        *LOOKED_AT,
        "asnumpy",
        *["empty", "empty", "batch_values", "empty", "differences"],
        *VIEWS,
    ],
    "gradient": [
        "empty",
        *LOOKED_AT,
        "asnumpy",
        *["empty", "empty", "empty", "batch_errors", "batch_gradient"],
        *VIEWS,
    ],
    "loss": [*LOOKED_AT, *EVALUATED],
    "accuracy": [*LOOKED_AT, *EVALUATED],
}


@pytest.mark.parametrize("door", CALLED)
@pytest.mark.parametrize("kind", ["labels", "int32", "targets"])
def test_a_call_asks_cupy_for_no_more_than_it_needs(log, device, door, kind):
    net = accelnn.MLP([6, 5, 3], dtype="float64", rng=0, backend=device)
    x, t = _digits(20)
    t = np.eye(3)[t] if kind == "targets" else t.astype("i4" if kind == "int32" else "i8")
    x, t = device.asarray(x.astype(float)), device.asarray(t)
    wanted = list(CALLED[door])
    if kind != "labels":
        # They are not copied.
        del wanted[wanted.index("ascontiguousarray") + 1]
    log.clear()
    CALLS.clear()
    getattr(net, door)(x, t)
    assert wanted == CALLS
    # One wait for the device, and nothing is copied to it.
    assert [event.to for event in log if isinstance(event, Transfer)] == ["host"]


def test_structured_differences_of_all_parameters_are_one_launch(log, device):
    net = accelnn.MLP([6, 5, 4, 3], dtype="float64", rng=0, backend=device)
    x, t = (device.asarray(a) for a in _digits(20))
    log.clear()
    net.numerical_gradient(x, t)
    assert _kernels(log) == ["check_call", "batch_values", "differences"]
    # The wait is over before the work begins.
    assert log[1] == FLAGS_TO_HOST
    launch = next(event for event in log if _is(event, "differences"))
    assert launch == Launch("differences", 4 * PROCESSORS, 128, is_cooperative=False, device=0)


def test_all_samples_are_evaluated_in_one_launch(log, device):
    net = accelnn.MLP([6, 5, 3], rng=0, backend=device)
    data = accelnn.prepare(*_digits(300), backend=device)
    log.clear()
    loss, accuracy = net.engine.evaluate(net.flat, data)
    assert np.isfinite(loss)
    assert 0.0 <= accuracy <= 1.0
    assert _kernels(log) == ["check_call", "evaluate", "mean_losses"]
    assert log[1].blocks == 2 * PROCESSORS
    # Its loss, its accuracy, and whether targets were out of range, at once.
    assert [event for event in log if isinstance(event, Transfer)] == [Transfer("host", 24)]


@pytest.mark.parametrize(("dtype", "longer"), [("float32", 1), ("float64", 24)])
def test_a_long_call_is_cut_into_launches(log, device, monkeypatch, dtype, longer):
    """So that Ctrl-C is heard between them; sooner where each takes longer."""
    monkeypatch.setattr(engine_module, "CALL_WORK", 20 * 53 * longer)
    _, history = _fit(device, samples=70, dtype=dtype)
    assert history.steps == 7
    assert _kernels(log) == ["check_parameters", "train", "mean_losses"] * 4
