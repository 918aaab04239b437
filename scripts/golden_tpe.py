"""Golden values of the Parzen search from Optuna's TPESampler: which trials count as the best, densities
of its estimators, and how good the best of 60 trials is on average. Writes tests/data/search/tpe.json.

    python scripts/golden_tpe.py

Needs optuna 5.0.
"""

import json
import pathlib

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import sampler as tpe
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "search" / "tpe.json"
SPACE = {"x": FloatDistribution(-2.0, 3.0), "c": CategoricalDistribution(("a", "b", "c")),
         "y": FloatDistribution(0.0, 0.5)}


def splits(rng):
    """Objectives of trials, how many are taken, and which Optuna takes."""
    cases = []
    for n, count, kind in [(12, 2, "one"), (40, 4, "one"), (20, 2, "two"), (35, 7, "two"), (30, 12, "two"),
                           (40, 9, "front"), (24, 6, "ties"), (30, 14, "ties"), (10, 10, "two")]:
        values = rng.random((n, 1 if kind == "one" else 2))
        if kind == "front":
            values[:, 1] = 1 - values[:, 0] ** 2
        if kind == "ties":
            values = np.round(values * 3) / 3
        study = optuna.create_study(directions=["minimize"] * values.shape[1])
        for row in values:
            study.add_trial(optuna.trial.create_trial(values=row.tolist()))
        below, _ = tpe._split_trials(study, study.trials, count)
        cases.append(dict(objectives=values.tolist(), count=count, best=[t.number for t in below]))
    return cases


def densities(rng):
    cases = []
    points = {"x": rng.uniform(-2, 3, 6), "c": rng.integers(0, 3, 6).astype(float), "y": rng.uniform(0, 0.5, 6)}
    for n, fading in [(0, True), (1, True), (2, False), (7, True), (24, True), (25, True), (26, True), (60, True),
                      (120, False)]:
        seen = {"x": rng.uniform(-2, 3, n) ** 3 / 9, "c": rng.integers(0, 3, n).astype(float),
                "y": rng.uniform(0, 0.5, n)}
        sampler = TPESampler()
        estimator = _ParzenEstimator(seen, SPACE, sampler._parzen_estimator_parameters,
                                     None if fading else np.ones(n))
        cases.append(dict(observations=np.array([seen[k] for k in SPACE]).T.tolist(), fading=fading,
                          points=np.array([points[k] for k in SPACE]).T.tolist(),
                          log_density=estimator.log_pdf(points).tolist()))
    return cases


def branin(x, y):
    return ((y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
            + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def best_values(sampler):
    best = []
    for seed in range(40):
        study = optuna.create_study(sampler=sampler(seed))
        study.optimize(lambda t: branin(t.suggest_float("x", -5, 10), t.suggest_float("y", 0, 15)), n_trials=60)
        best.append(study.best_value)
    return dict(mean=float(np.mean(best)), error=float(np.std(best, ddof=1) / len(best) ** 0.5))


def main():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = np.random.default_rng(0)
    golden = dict(optuna=optuna.__version__, splits=splits(rng), densities=densities(rng),
                  branin=dict(trials=60, seeds=40, startup=10,
                              tpe=best_values(lambda seed: TPESampler(seed=seed, multivariate=True)),
                              random=best_values(lambda seed: optuna.samplers.RandomSampler(seed=seed))))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(golden) + "\n")
    print(golden["optuna"], golden["branin"])


if __name__ == "__main__":
    main()
