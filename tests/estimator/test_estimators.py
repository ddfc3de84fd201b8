"""Training, prediction and state of the estimators."""

import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra 'sklearn' is not installed")

from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier as TheirClassifier

import accelnn
from accelnn.errors import DivergenceWarning
from accelnn.estimator import MLPClassifier, MLPRegressor, _base

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FAST = accelnn.Adam(0.02)
EPSILON = np.finfo(float).eps


def classifier(**options):
    return MLPClassifier(**({"hidden_layer_sizes": 20, "random_state": 0, "max_iter": 8} | options))


def test_one_seed_gives_one_result(iris):
    first, second = (classifier().fit(*iris).predict_proba(iris[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = classifier(random_state=1).fit(*iris).predict_proba(iris[0])
    assert np.abs(first - other).max() > 0.01


def test_backends_agree(iris, usable):
    usable("numba")
    ours, others = (
        classifier(backend=b).fit(*iris).predict_proba(iris[0]) for b in ("numpy", "numba")
    )
    # Eight updates, each of sums over the 150 samples of the only batch.
    np.testing.assert_allclose(ours, others, atol=8 * 150 * EPSILON)


def test_it_is_what_fit_does(iris):
    X, y = iris
    model = classifier().fit(X, y)
    draw = np.random.default_rng(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    net = accelnn.MLP([4, 20, 3], activation="relu", dtype="float64", init="xavier", rng=draw)
    history = accelnn.fit(net, X, y, optimizer=accelnn.Adam(), batch_size=150, epochs=8, rng=draw)
    np.testing.assert_array_equal(net.flat, model.net_.flat)
    np.testing.assert_allclose(model.loss_curve_, history.loss, rtol=4 * EPSILON)


def test_the_curve_counts_samples_of_a_short_batch(iris):
    X, y = iris
    still = accelnn.SGD(1e-300)
    model = classifier(batch_size=40, optimizer=still, max_iter=1).fit(X, y)
    expected = log_loss(y, model.predict_proba(X))
    np.testing.assert_allclose(model.loss_curve_, [expected], rtol=150 * EPSILON)


def test_weights_have_a_mean_of_one(iris):
    X, y = iris
    weights = np.random.default_rng(0).uniform(0.0, 9.0, size=150)
    model = classifier(optimizer=accelnn.SGD(1e-300), max_iter=1).fit(X, y, weights)
    expected = log_loss(y, model.predict_proba(X), sample_weight=weights)
    np.testing.assert_allclose(model.loss_curve_, [expected], rtol=150 * EPSILON)


def test_x_decides_the_dtype(iris):
    X, y = iris
    assert classifier().fit(X.astype("float32"), y).net_.dtype == "float32"
    assert classifier().fit(X.astype("float32"), y, None).predict_proba(X).dtype == np.float32
    assert classifier().fit((X * 10).astype(int), y).net_.dtype == "float64"
    assert classifier(dtype="float32").fit(X, y).net_.dtype == "float32"


def test_names_of_classes(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])
    model = classifier(max_iter=300, early_stopping=True, optimizer=FAST).fit(X, names[y])
    assert list(model.classes_) == sorted(names)
    assert model.score(X, names[y]) > 0.9


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "bb", "ccc"], object),
        np.array(["a", "bb", "ccc"], "<U20"),
        np.array([2, 5, 7], ">i4"),
        np.array([2.0, 5.0, 7.0]),
        np.array([np.str_("a"), np.str_("bb"), np.str_("ccc")], object),
    ],
)
def test_classes_have_the_type_that_scikit_learn_gives_them(labels):
    x = np.random.default_rng(0).normal(size=(24, 3))
    y = labels[np.arange(24) % 3]
    ours = MLPClassifier(4, max_iter=1, random_state=1)
    theirs = TheirClassifier(4, max_iter=1, random_state=1)
    found, expected = ours.fit(x, y), theirs.fit(x, y)
    assert found.classes_.dtype == expected.classes_.dtype
    assert found.classes_.tolist() == expected.classes_.tolist()
    assert found.predict(x).dtype == expected.predict(x).dtype


def test_two_classes_have_one_output(iris):
    X, y = iris
    model = classifier(max_iter=300, optimizer=FAST).fit(X, y == 0)
    assert model.net_.spec.sizes[-1] == 1
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0, rtol=EPSILON)
    np.testing.assert_array_equal(model.predict(X), y == 0)
    np.testing.assert_array_equal(
        np.exp(model.predict_log_proba(X)).argmax(axis=1), (y == 0).astype(int)
    )


def test_several_labels_at_once(iris):
    X, y = iris
    labels = np.c_[y == 0, y > 0, np.ones_like(y)].astype(int)
    model = classifier(max_iter=400).fit(X, labels)
    assert model.score(X, labels) == 1.0
    assert model.predict_proba(X).shape == labels.shape


def test_sparse_samples_are_those_of_the_dense_array(iris):
    from scipy import sparse

    X, y = np.where(iris[0] > 0.5, iris[0], 0.0), iris[1]
    dense, thin = classifier().fit(X, y), classifier().fit(sparse.csc_array(X), y)
    np.testing.assert_array_equal(dense.predict_proba(X), thin.predict_proba(sparse.coo_array(X)))


def test_weights_of_classes_are_weights_of_samples(iris):
    X, y = iris[0][:120], iris[1][:120]
    balanced = classifier(class_weight="balanced").fit(X, y)
    by_sample = classifier().fit(X, y, 7.0 * (120 / (3 * np.bincount(y)))[y])
    np.testing.assert_allclose(
        balanced.predict_proba(X), by_sample.predict_proba(X), atol=8 * 120 * EPSILON
    )
    plain = classifier().fit(X, y)
    assert np.abs(balanced.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


def test_weights_of_classes_may_name_those_that_a_part_lacks(iris):
    X, y = iris
    chosen, some = {0: 1.0, 1: 2.0}, y != 1
    model = classifier(class_weight=chosen).partial_fit(X[some], y[some], classes=[0, 1, 2])
    # The class that is not named counts 1, as the one that is.
    plain = classifier().partial_fit(X[some], y[some], classes=[0, 1, 2])
    np.testing.assert_array_equal(model.net_.flat, plain.net_.flat)
    model.partial_fit(X, y)
    again = plain.partial_fit(X, y, sample_weight=np.where(y == 1, 2.0, 1.0))
    np.testing.assert_array_equal(model.net_.flat, again.net_.flat)


def test_a_part_of_the_data_may_lack_a_class_that_has_a_weight(iris):
    """As in cross-validation with a rare class."""
    X, y = iris
    some = y < 2
    weighted = classifier(class_weight={0: 1, 1: 2, 2: 3, 7: 2}).fit(X[some], y[some])
    expected = classifier(class_weight={0: 1, 1: 2}).fit(X[some], y[some])
    np.testing.assert_array_equal(weighted.net_.flat, expected.net_.flat)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({0: -1.0, 1: -2.0}, "must be finite and not negative, got -1.0 for 0"),
        ({0: -1.0, 1: 1.0}, "must be finite and not negative, got -1.0 for 0"),
        ({0: np.nan}, "must be finite and not negative, got nan for 0"),
        ({0: np.inf}, "must be finite and not negative, got inf for 0"),
        ({0: 1.0, 1: None}, "must be finite and not negative, got None for 1"),
        ({0: "x"}, "must be finite and not negative, got 'x' for 0"),
        ({"1": 1.0}, "class_weight names '1', which is none of the 3 classes, and gives none to 0"),
        ({0: 1.0, 1: 1.0, 3: 1.0}, "class_weight names 3, which .* gives none to 2"),
        ("balance", "class_weight must be 'balanced', or a dict .*, got 'balance'"),
    ],
)
def test_weights_of_classes_that_cannot_be_meant(iris, chosen, message):
    with pytest.raises(ValueError, match=message):
        classifier(class_weight=chosen).fit(*iris)


@pytest.mark.parametrize("weight", [1.0, 0.3, 1e308, 1e-308])
def test_equal_weights_change_nothing(iris, weight):
    X, y = iris
    weighted = classifier().fit(X, y, np.full(150, weight))
    expected = classifier().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(weighted.predict_proba(X), expected, atol=8 * 150 * EPSILON)


def test_partial_fit_goes_on_to_the_bit(iris):
    X, y = iris
    steps = classifier()
    for _ in range(8):
        steps.partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(steps.net_.flat, classifier(tol=0.0).fit(X, y).net_.flat)
    assert steps.n_iter_ == len(steps.loss_curve_) == 8


def test_partial_fit_takes_samples_of_one_class(iris):
    X, y = iris
    model = classifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    model.partial_fit(X[50:], y[50:], sample_weight=np.ones(100))
    assert model.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match=r"classes \[3\]"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="not the same as in the first call"):
        model.partial_fit(X, y, classes=[0, 1])


def test_what_is_pickled_goes_on_as_if_it_were_not(iris):
    X, y = iris
    model = classifier().fit(X, y)
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    model.partial_fit(X[:40], y[:40])
    copy.partial_fit(X[:40], y[:40])
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


def test_warm_start_goes_on_and_needs_the_same_layers(iris):
    X, y = iris
    model = classifier(warm_start=True).fit(X, y)
    before = model.loss_
    assert model.fit(X, y).loss_ < before
    with pytest.raises(
        ValueError, match=r"layers \(4, 20, 3\), and this call asks for \(4, 7, 3\)"
    ):
        model.set_params(hidden_layer_sizes=7).fit(X, y)


def test_samples_come_in_order_without_shuffling(iris):
    X, y = iris
    model = classifier(shuffle=False, batch_size=40, optimizer=accelnn.SGD(0.1), max_iter=1)
    model.fit(X, y)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    net = accelnn.MLP([4, 20, 3], activation="relu", dtype="float64", init="xavier", rng=seed)
    for start in range(0, 150, 40):
        gradients = net.gradient(X[start : start + 40], y[start : start + 40])
        for key, gradient in gradients.items():
            net.params[key] -= 0.1 * gradient
    np.testing.assert_allclose(model.net_.flat, net.flat, atol=4 * 40 * EPSILON)


def test_ctrl_c_keeps_what_is_trained(iris, monkeypatch):
    usual = _base.Plateau.__call__

    def interrupted(self, net, history):
        if len(self.curve) == 2:
            raise KeyboardInterrupt
        return usual(self, net, history)

    monkeypatch.setattr(_base.Plateau, "__call__", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user after 3 updates") as caught:
        model = classifier().fit(*iris)
    assert caught[0].filename == __file__
    assert model.n_iter_ == 2
    model.predict(iris[0])


@pytest.mark.parametrize("samples", [150, 40])
def test_partial_fit_is_a_whole_epoch_after_a_run_that_was_interrupted_within_one(
    numbers, monkeypatch, samples
):
    """The rest of that epoch was of other samples."""
    X, y = numbers
    usual = _base.fit

    def interrupted(net, data, callbacks, **options):
        def press(_net, history):
            if history.steps == 3:
                raise KeyboardInterrupt

        press.every = 1
        return usual(net, data, callbacks=[*callbacks, press], **options)

    model = MLPRegressor(10, batch_size=16, random_state=0)
    with monkeypatch.context() as patched:
        patched.setattr(_base, "fit", interrupted)
        with pytest.warns(UserWarning, match="interrupted by user after 3 updates"):
            model.fit(X, y)
    assert model._ending.position == 3
    model.partial_fit(X[:samples], y[:samples])
    assert model._ending.updates == 3 + -(-len(X[:samples]) // 16)
    assert (model.n_iter_, len(model.loss_curve_)) == (1, 1)
    assert np.isfinite(model.loss_curve_).all()


def test_a_run_that_does_not_converge_says_so(iris):
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs") as caught:
        classifier(max_iter=2).fit(*iris)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(max_iter=20, tol=1.0, n_iter_no_change=2).fit(*iris)


def test_regression_of_one_and_of_several_outputs(numbers):
    X, y = numbers
    one = MLPRegressor(max_iter=1500, random_state=0).fit(X, y)
    assert one.score(X, y) > 0.98
    assert one.predict(X).shape == (120,)
    both = MLPRegressor(max_iter=1500, random_state=0).fit(X, np.c_[y, -y])
    assert both.score(X, np.c_[y, -y]) > 0.98
    with pytest.warns(UserWarning, match="column-vector"):
        assert MLPRegressor(max_iter=2).fit(X, y[:, None]).predict(X).shape == (120,)


@pytest.mark.filterwarnings("ignore::accelnn.errors.DivergenceWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_targets_that_are_too_large_are_an_error(numbers):
    X, y = numbers
    with pytest.raises(ValueError, match="scale X"):
        MLPRegressor(max_iter=5).fit(X, y * 1e200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
        ({"tol": -1.0}, "tol must be non-negative"),
        ({"activation": "tan"}, "unknown activation 'tan'"),
        ({"early_stopping": True, "validation_fraction": 1.5}, "^validation_fraction must lie"),
        (
            {"early_stopping": True, "validation_fraction": 1e-9},
            "^validation_fraction=1e-09 of 150",
        ),
    ],
)
def test_wrong_options(iris, options, message):
    """They are refused, and the estimator is what it was."""
    X, y = iris
    model = classifier()
    usual = {name: model.get_params()[name] for name in options}
    with pytest.raises(ValueError, match=message):
        model.set_params(**options).fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.set_params(**usual).fit(X, y)
    before = model.predict_proba(X)
    # Of other samples, whose number of features would be another one.
    with pytest.raises(ValueError, match=message):
        model.set_params(**options).fit(X[:, :2], y)
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_a_fit_that_fails_leaves_the_net_of_the_last(numbers):
    X, y = numbers
    model = MLPRegressor(10, max_iter=5, random_state=0).fit(X, y)
    before = model.predict(X)
    with (
        np.errstate(all="ignore"),
        pytest.warns(DivergenceWarning),
        pytest.raises(ValueError, match="scale X"),
    ):
        model.fit(X, y * 1e200)
    np.testing.assert_array_equal(model.predict(X), before)


def test_a_fit_that_warns_is_kept_where_warnings_are_errors(iris):
    model = classifier(max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.fit(*iris)
    assert model.n_iter_ == 2


def test_what_is_of_another_kind_is_refused(iris, numbers):
    for sizes in (5.0, "16", (16.0,), (0,), -3, None):
        with pytest.raises(
            TypeError, match=r"hidden_layer_sizes must be .* such as \(100, 50\), got"
        ):
            classifier(hidden_layer_sizes=sizes).fit(*iris)
    assert classifier(hidden_layer_sizes=iter([5, 3])).fit(*iris).net_.spec.sizes == (4, 5, 3, 3)
    for names in (np.array(["a", "b"]), np.array(["a", "b"], object)):
        with pytest.raises(ValueError, match=r"numbers|could not convert string to float"):
            MLPRegressor().fit(numbers[0], names[(numbers[1] > 0).astype(int)])


def test_classes_in_messages_are_few():
    X, y = np.zeros((900, 2)), np.arange(900) % 300
    model = MLPClassifier(2, max_iter=1)
    with pytest.raises(ValueError, match=r"y has the classes a list of 299 elements, .* apart: "):
        model.partial_fit(X, y, classes=[0, 300])
    model.partial_fit(X, y % 2, classes=[0, 1])
    with pytest.raises(ValueError, match=r"classes=an array of shape \(900,\) is not the same"):
        model.partial_fit(X, y % 2, classes=y)


def test_what_needs_more_is_refused(iris, numbers):
    with pytest.raises(ValueError, match="'balanced' needs all samples"):
        classifier(class_weight="balanced").partial_fit(*iris, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="one of classifiers"):
        MLPRegressor(loss="cross_entropy").fit(*numbers)
    with pytest.raises(ValueError, match="classes must be passed"):
        classifier().partial_fit(*iris)


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("way", ["partial_fit", "fit"])
def test_without_shuffling_the_order_is_kept_in_every_call(numbers, way, copied):
    X, y = numbers
    options = {"shuffle": False, "batch_size": 32, "random_state": 0, "warm_start": way == "fit"}
    parts = MLPRegressor(10, max_iter=1, optimizer=accelnn.SGD(0.01), **options)
    for _ in range(3):
        getattr(parts, way)(X, y)
        parts = copy.deepcopy(parts) if copied else parts
    whole = MLPRegressor(10, max_iter=3, optimizer=accelnn.SGD(0.01), **options).fit(X, y)
    np.testing.assert_array_equal(parts.net_.flat, whole.net_.flat)


def test_a_call_that_is_refused_leaves_the_estimator_as_it_was(iris, numbers):
    X, y = iris
    model = classifier().fit(X, y > 0)
    before = model.predict(X)
    for others in (np.c_[y > 0, y > 1, y > 0].astype(int), np.c_[y > 0, y > 1].astype(int)):
        with pytest.raises(ValueError, match="the net trained before has layers"):
            model.partial_fit(X, others)
        np.testing.assert_array_equal(model.predict(X), before)
    X, y = numbers
    regressor = MLPRegressor(max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match="the net trained before has layers"):
        regressor.partial_fit(X, np.c_[y, y])
    assert regressor.predict(X).shape == y.shape


def test_an_estimator_whose_first_run_failed_can_be_copied_and_mended(iris):
    model = classifier(optimizer="adam")
    with pytest.raises(TypeError, match="optimizer must be an object"):
        model.fit(*iris)
    again = copy.deepcopy(model).set_params(optimizer=None)
    again.fit(*iris)
    np.testing.assert_array_equal(again.net_.flat, classifier().fit(*iris).net_.flat)


def test_a_warm_fit_after_partial_fit_draws_another_order(iris):
    """It began with the order that partial_fit had used."""
    X, y = iris
    model = classifier(batch_size=30, max_iter=1, warm_start=True).fit(X, y)
    before = model._draw.bit_generator.state
    model.partial_fit(X, y)
    after = model._draw.bit_generator.state
    assert after != before
    whole = np.random.default_rng(0)
    whole.bit_generator.state = before
    whole.permutation(len(X))
    assert after == whole.bit_generator.state
