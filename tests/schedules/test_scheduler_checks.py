"""Options of schedulers that are refused before training: where, why, and what was meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tuner import schedules
from tuner.errors import SearchSpaceError, UsageError
from tuner.recipe import SchedulerConfigs

LINEAR = {"scheduler": "LinearLR"}
COSINE = {"scheduler": "CosineAnnealingLR"}


def check(name: str, options: dict[str, Any]) -> None:
    schedules.check(name, options, "file.yaml: scheduler_kwargs.{}".format, options)


def build(name: str, options: dict[str, Any], epochs: int = 10) -> Any:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    return schedules.build(name, optimizer, options, SchedulerConfigs(), epochs, 4)


@pytest.mark.parametrize(
    ("name", "options", "place", "rule"),
    [
        ("StepLR", {"step_size": 3, "gama": 0.1}, "gama", "StepLR has no option 'gama'.*'gamma'.*step_size"),
        ("StepLR", {}, "step_size", "StepLR needs 'step_size'"),
        ("LinearWarmupCosineAnnealingLR", {}, "warmup_epochs", "needs 'warmup_epochs'"),
        ("LinearWarmupCosineAnnealingLR", {"warmup_epochs": "auto"}, "warmup_epochs", "auto is for: max_epochs"),
        ("StepLR", {"step_size": "auto"}, "step_size", "needs a value of its own here .*'auto'"),
        ("OneCycleLR", {"epochs": 3}, "epochs", "needs 'steps_per_epoch' beside 'epochs'"),
        ("OneCycleLR", {"last_epoch": 3}, "last_epoch", "set by the run itself"),
        ("CyclicLR", {"max_lr": 1.0, "scale_fn": "x"}, "scale_fn", "set by mode and gamma"),
        ("MultiStepLR", {"milestones": 5}, "milestones", "list of whole numbers, each at least 1 .*got 5"),
        ("MultiStepLR", {"milestones": [2.5]}, "milestones", "list of whole numbers"),
        ("LambdaLR", {}, "lr_lambda", "LambdaLR needs 'lr_lambda'"),
        ("LambdaLR", {"lr_lambda": "0.9 **"}, "lr_lambda", "not an expression"),
        ("LambdaLR", {"lr_lambda": "0.9 ** step"}, "lr_lambda", "no value 'step'.*got '0.9 [*][*] step'"),
        ("LambdaLR", {"lr_lambda": "0.9 ** epok"}, "lr_lambda", "Did you mean 'epoch'"),
        ("LambdaLR", {"lr_lambda": "tan(epoch)"}, "lr_lambda", "no function 'tan'"),
        ("LambdaLR", {"lr_lambda": "__import__('os').getcwd()"}, "lr_lambda", "no function|not an expression"),
        ("LambdaLR", {"lr_lambda": "'fast'"}, "lr_lambda", "must be a number of at least 0"),
        ("LambdaLR", {"lr_lambda": "epoch - 1"}, "lr_lambda", "at epoch 0 it is -1"),
        ("LambdaLR", {"lr_lambda": "1 / epoch"}, "lr_lambda", "cannot be computed at epoch 0"),
        ("MultiplicativeLR", {"lr_lambda": ["0.9", "rate"]}, r"lr_lambda\[1\]", "no value 'rate'"),
        ("SequentialLR", {"milestones": [5]}, "schedulers", "needs 'schedulers'"),
        ("SequentialLR", {"schedulers": [LINEAR, COSINE]}, "milestones", "needs 'milestones'"),
        ("SequentialLR", {"schedulers": LINEAR, "milestones": []}, "schedulers", "must be a list of schedulers"),
        ("ChainedScheduler", {"schedulers": []}, "schedulers", "must be a list of schedulers"),
        ("ChainedScheduler", {"schedulers": ["LinearLR"]}, r"schedulers\[0\]", "must be a mapping .*got 'LinearLR'"),
        ("ChainedScheduler", {"schedulers": [{"name": "LinearLR"}]}, r"schedulers\[0\]", "needs 'scheduler'"),
        (
            "ChainedScheduler",
            {"schedulers": [LINEAR, {"scheduler": "ExponentalLR"}]},
            r"schedulers\[1\]\.scheduler",
            "no scheduler 'ExponentalLR'. Did you mean 'ExponentialLR'",
        ),
        (
            "SequentialLR",
            {"schedulers": [LINEAR, {**COSINE, "T_maxx": 3}], "milestones": [5]},
            r"schedulers\[1\]\.T_maxx",
            "CosineAnnealingLR has no option 'T_maxx'. Did you mean 'T_max'",
        ),
        (
            "ChainedScheduler",
            {
                "schedulers": [
                    {"scheduler": "SequentialLR", "milestones": [2], "schedulers": [LINEAR, {"scheduler": "StepLR"}]}
                ]
            },
            r"schedulers\[0\]\.schedulers\[1\]\.step_size",
            "StepLR needs 'step_size'",
        ),
        (
            "ChainedScheduler",
            {"schedulers": [{"scheduler": "LambdaLR", "lr_lambda": "epok"}]},
            r"schedulers\[0\]\.lr_lambda",
            "Did you mean 'epoch'",
        ),
        (
            "SequentialLR",
            {"schedulers": [LINEAR, COSINE], "milestones": [5, 8]},
            "milestones",
            r"one fewer than the schedulers, of which there are 2 \(got \[5, 8\]\)",
        ),
        (
            "SequentialLR",
            {"schedulers": [LINEAR, COSINE, COSINE], "milestones": [5, 3]},
            "milestones",
            "in increasing order",
        ),
        (
            "SequentialLR",
            {"schedulers": [LINEAR, {"scheduler": "ReduceLROnPlateau"}], "milestones": [5]},
            r"schedulers\[1\]\.scheduler",
            "cannot hold ReduceLROnPlateau here, which needs a metric",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_its_place(name: str, options: dict[str, Any], place: str, rule: str) -> None:
    with pytest.raises(UsageError, match=rf"^file\.yaml: scheduler_kwargs\.{place}: .*(?:{rule})"):
        check(name, options)


@pytest.mark.parametrize(
    ("outer", "options"),
    [
        (
            "SequentialLR",
            {"schedulers": [COSINE, {"scheduler": "ChainedScheduler", "schedulers": [COSINE]}], "milestones": [5]},
        ),
        (
            "SequentialLR",
            {"schedulers": [{"scheduler": "ChainedScheduler", "schedulers": [COSINE]}, COSINE], "milestones": [5]},
        ),
        ("ChainedScheduler", {"schedulers": [{"scheduler": "ReduceLROnPlateau"}]}),
    ],
)
def test_what_torch_cannot_compose_is_refused(outer: str, options: dict[str, Any]) -> None:
    """As it is: torch itself fails, or warns (an error here), at the latest when it is stepped."""
    with pytest.raises(SearchSpaceError, match="cannot hold"):
        check(outer, options)
    with pytest.raises((ValueError, NotImplementedError, UserWarning)):
        stepped(outer, options)


def stepped(outer: str, options: dict[str, Any]) -> None:
    scheduler = build(outer, options)
    for _ in range(9):
        scheduler.optimizer.step()
        scheduler.step()


def test_a_sequence_is_chained_only_first_because_it_undoes_a_start_before_it() -> None:
    halved = {"scheduler": "ConstantLR", "factor": 0.5, "total_iters": 3}
    sequence = {"scheduler": "SequentialLR", "schedulers": [{"scheduler": "LinearLR"}, COSINE], "milestones": [5]}
    check("ChainedScheduler", {"schedulers": [sequence, halved]})
    with pytest.raises(SearchSpaceError, match="unless it is the first"):
        check("ChainedScheduler", {"schedulers": [halved, sequence]})
    rates = [
        build("ChainedScheduler", {"schedulers": parts}).get_last_lr()[0]
        for parts in ([sequence, halved], [halved, sequence])
    ]
    assert rates == pytest.approx([0.5 * 0.1 / 3, 0.1 / 3])  # torch's: the second has lost the half


def test_right_options_pass() -> None:
    check("OneCycleLR", {"epochs": "auto", "steps_per_epoch": "auto", "max_lr": "auto"})
    check("ReduceLROnPlateau", {"mode": "auto"})
    check("LambdaLR", {"lr_lambda": ["0.9 ** epoch", 1]})
    check("SequentialLR", {"schedulers": [LINEAR, COSINE], "milestones": [5]})
    schedules.check("SequentialLR", ["schedulers", "milestones"], str)


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("CosineAnnealingLR", {"T_max": 0}, "T_max must be a whole number of at least 1, not 0"),
        ("StepLR", {"step_size": 2.5}, "step_size must be a whole number"),
        ("LinearLR", {"total_iters": True}, "total_iters must be a whole number"),
        ("StepLR", {"step_size": "auto"}, "step_size cannot be auto"),
        ("OneCycleLR", {"pct_start": 0.1}, r"pct_start \* total_steps must not be 1"),
        ("OneCycleLR", {"total_steps": 5}, "the run steps it 10 times, and its total_steps are 5"),
        ("LinearWarmupCosineAnnealingLR", {"warmup_epochs": 11}, r"from 0 to max_epochs \(10\), not 11"),
        ("LambdaLR", {"lr_lambda": "1 / (7 - epoch)"}, r"scheduler_kwargs\.lr_lambda: cannot be computed at epoch 7"),
        (
            "SequentialLR",
            {"schedulers": [LINEAR, {**COSINE, "T_max": 0}], "milestones": [5]},
            r"schedulers\[1\], CosineAnnealingLR: T_max must be",
        ),
        ("CosinAnnealingLR", {}, "Did you mean 'CosineAnnealingLR'"),
    ],
)
def test_what_would_fail_in_training_fails_when_it_is_built(name: str, options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        build(name, options)
