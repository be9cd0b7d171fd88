"""The log of a run as CSV, which a resumed run goes on with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only


class RunLog(CSVLogger):
    """`csv/metrics.csv` in a run's folder. Lightning's own logger would begin a resumed run's file anew."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, name="", version="csv")
        file = out / "csv" / "metrics.csv"
        self._before = _read(file) if file.is_file() else []

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row. The first one drops what the earlier process logged of the same steps and later ones."""
        if self._before and step is not None:
            self.experiment.metrics += [row for row in self._before if row["step"] < step]
            self._before = []
            self.save()
        super().log_metrics(dict(metrics), step)


def _read(file: Path) -> list[dict[str, float]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
