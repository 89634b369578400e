"""A run's epoch records as a few arrays, which are quickly stored however many epochs there are, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.training.run import EpochRecord

COUNTS, NUMBERS = ("epoch", "steps"), ("learning_rate", "gradient_norm", "seconds")


def packed(records: Sequence[EpochRecord]) -> dict[str, Any]:
    """The records as arrays of epochs x fields; of the named values, `recorded` says which an epoch has."""
    names = list(dict.fromkeys(name for record in records for name in record.values))
    return {
        "counts": np.array([[getattr(record, field) for field in COUNTS] for record in records], dtype=np.int64),
        "numbers": np.array([[getattr(record, field) for field in NUMBERS] for record in records], dtype=np.float64),
        "names": names,
        "values": np.array([[record.values.get(name, 0.0) for name in names] for record in records], dtype=np.float64),
        "recorded": np.array([[name in record.values for name in names] for record in records], dtype=np.bool_),
        "notes": {record.epoch: record.notes for record in records if record.notes},
    }


def unpacked(state: Mapping[str, Any]) -> list[EpochRecord]:
    """The records of an earlier `packed`."""
    rows = zip(*(state[key].tolist() for key in ("counts", "numbers", "values", "recorded")), strict=True)
    records = []
    for counts, numbers, values, recorded in rows:
        kept = {name: value for name, value, has in zip(state["names"], values, recorded, strict=True) if has}
        fields = dict(zip((*COUNTS, *NUMBERS), (*counts, *numbers), strict=True))
        records.append(EpochRecord(**fields, values=kept, notes=state["notes"].get(fields["epoch"], ())))
    return records
