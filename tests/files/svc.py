"""A plain Optuna objective: no torch in it."""

from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

X, y = load_iris(return_X_y=True)


def objective(trial):
    c = trial.suggest_float("C", 1e-2, 1e2, log=True)
    kernel = trial.suggest_categorical("kernel", ["rbf", "linear"])
    gamma = trial.suggest_float("gamma", 1e-3, 1.0, log=True) if kernel == "rbf" else "scale"
    return cross_val_score(SVC(C=c, kernel=kernel, gamma=gamma), X, y, cv=3).mean()


def always_fails(trial):
    raise ValueError("no such luck")


def prunes(trial):
    import optuna

    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 1)
    if trial.number % 2:
        raise optuna.TrialPruned
    return x
