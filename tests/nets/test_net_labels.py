"""Labels that are no integers of shape (n,): the error names the call that makes them so."""

import numpy as np
import pytest

import accelnn

LABELS = np.array([0, 2, 1, 1])
X = np.linspace(0.0, 1.0, 20).reshape(4, 5)
# What people have, and what the message says of it.
KINDS = {
    "float": (LABELS.astype(float), "t.astype(int)"),
    "bool": (LABELS > 1, "t.astype(int)"),
    "column": (LABELS[:, None], "t.ravel()"),
    "names": (np.array(["cat", "eel", "dog", "dog"]), "np.unique(t, return_inverse=True)[1]"),
    "objects": (
        np.array(["cat", "eel", "dog", "dog"], object),
        "np.unique(t, return_inverse=True)[1]",
    ),
}


def new_net():
    return accelnn.MLP([5, 3], rng=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", ["loss", "gradient", "accuracy", "fit", "validation"])
def test_the_message_says_how_to_make_labels(kind, door):
    t, call = KINDS[kind]

    def use(labels):
        net = new_net()
        if door == "fit":
            return accelnn.fit(net, X, labels, epochs=1)
        if door == "validation":
            return accelnn.fit(net, X, LABELS, validation=(X, labels), epochs=1)
        return getattr(net, door)(X, labels)

    with pytest.raises((ValueError, TypeError)) as caught:
        use(t)
    assert call in str(caught.value)
    assert len(str(caught.value)) < 300
    use(eval(call, {"np": np, "t": t}))  # noqa: S307 - the message's own
