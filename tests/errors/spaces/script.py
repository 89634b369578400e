"""A valid script with two functions and no Task."""


def objective(trial):
    return trial.suggest_float("x", 0, 1)


def helper(x):
    return x


number = 3
