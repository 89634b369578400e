"""A colon is missing."""


def broken(x)
    return x
