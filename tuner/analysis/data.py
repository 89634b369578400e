"""StudyData: a study as analysis sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tuner.analysis.trials import COUNTED, cells, finite, parameters_of, searched, trials_frame
from tuner.storage.records import Records


@dataclass(frozen=True)
class StudyData:
    """The records of a study, and the frame of its trials (see `trials_frame`); row n is trial n.

    Raises `UsageError` for a study with several objectives, as soon as the frame is asked for.
    """

    records: Records

    @property
    def name(self) -> str:
        """The study's name."""
        return self.records.name

    @property
    def folder(self) -> Path | None:
        """The folder of studies that this one was read from."""
        return None if self.records.files is None else self.records.files.parent

    @property
    def maximize(self) -> bool:
        """Whether higher values are better."""
        return self.records.maximize

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a trial."""
        return trials_frame(self.records)

    @cached_property
    def search(self) -> dict[str, dict[str, Any]]:
        """What was searched, as written: descriptions by path."""
        return searched(self.records)

    @property
    def space(self) -> Mapping[str, Any]:
        """The stored search space; empty for a study that tuner did not make."""
        said = self.records.attributes.get("space")
        return said if isinstance(said, Mapping) else {}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe that all trials began with; empty where there is none."""
        said = self.space.get("recipe")
        return said if isinstance(said, Mapping) else {}

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return str(self.space.get("metric") or "value")

    @cached_property
    def columns(self) -> dict[str, str]:
        """The parameters, and the columns of the frame they stand in."""
        return parameters_of(self.frame)

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The complete trials with a finite value; duplicates, which would weigh twice, are not among them."""
        pairs = zip(cells(self.frame, "state"), cells(self.frame, "value"), strict=True)
        return self.rows([state == "complete" and finite(value) is not None for state, value in pairs])

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The trials that count towards the budget."""
        return self.frame[self.frame["counted"]]

    @cached_property
    def trained(self) -> pd.DataFrame:
        """The trials that were trained, here or in the study that they were taken over from."""
        return self.frame[self.frame["state"].isin(COUNTED)]

    def rows(self, wanted: Sequence[bool]) -> pd.DataFrame:
        """The rows of the frame for which `wanted` is true."""
        return self.frame[pd.Series(wanted, index=self.frame.index, dtype=bool)]

    def better(self, first: float, second: float) -> bool:
        """Whether one value is better than another."""
        return first > second if self.maximize else first < second
