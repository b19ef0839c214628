"""Logistic regression on features, with its L2 strength chosen on validation samples."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

STRENGTHS = tuple(10.0**power for power in range(-6, 7))
"""Inverse L2 strengths that are tried (scikit-learn's C), the range of CLIP's linear probes
(Radford et al., ICML 2021, A.3), once a decade."""

MAX_ITERATIONS = 1000  # as CLIP's linear probes
_PATIENCE = 3  # strengths without gain after which the search ends
_LEAST = 1e-7  # probability that the log loss never falls below


class Fit(NamedTuple):
    """One fitted probe.

    Attributes:
        probabilities: Of each class, for the samples that were asked for.
        strength: Chosen C; NaN if there was nothing to learn from.
        converged: Whether the solver reached its tolerance.
    """

    probabilities: Float[ndarray, "n k"]
    strength: float
    converged: bool


class Labelled(NamedTuple):
    """Features, and the class of each sample."""

    features: Float[ndarray, "n e"]
    classes: Int[ndarray, " n"]


def fit_probe(
    train: Labelled, validation: Labelled, asked: Float[ndarray, "n e"], num_classes: int
) -> Fit:
    """Fit by every strength, weakest model first, and keep the one of least validation log loss.

    The features are centred and scaled by one number, both of the training samples; the classes
    are weighted as they occur. After three strengths without gain the search ends. A class that
    does not occur in training has probability 0; a single class probability 1.
    """
    present = np.unique(train.classes)
    if len(present) < 2:
        one = np.zeros((len(asked), num_classes))
        one[:, present] = 1.0
        return Fit(one, float("nan"), True)
    centre = train.features.mean(axis=0)
    scale = max(float(np.sqrt(((train.features - centre) ** 2).mean())), 1e-12)
    inputs, held_out, others = (
        (part - centre) / scale for part in (train.features, validation.features, asked)
    )
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    best, least, without_gain = Fit(np.zeros((0, 0)), float("nan"), True), np.inf, 0
    for strength in STRENGTHS:
        model.C = strength
        with warnings.catch_warnings():  # a chosen fit that did not converge is counted
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, train.classes)
        loss = _log_loss(_spread(model, held_out, num_classes), validation.classes)
        without_gain += 1
        if loss < least:
            converged = int(np.max(model.n_iter_)) < MAX_ITERATIONS
            best = Fit(_spread(model, others, num_classes), strength, converged)
            least, without_gain = loss, 0
        if without_gain == _PATIENCE:
            break
    return best


def _spread(
    model: LogisticRegression, inputs: Float[ndarray, "n e"], num_classes: int
) -> Float[ndarray, "n k"]:
    """Put the probabilities of the classes that occurred into columns of all classes."""
    probabilities = np.zeros((len(inputs), num_classes))
    if len(inputs):
        probabilities[:, model.classes_] = model.predict_proba(inputs)
    return probabilities


def _log_loss(probabilities: Float[ndarray, "n k"], classes: Int[ndarray, " n"]) -> float:
    true = probabilities[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(true, _LEAST)).mean())
