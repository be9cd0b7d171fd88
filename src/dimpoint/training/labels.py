"""Which labels a run learns from, where a data set has points and masks, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dimpoint.data.dataset import DataSet, Labels, Sample
from dimpoint.data.examine import POINT_TOLERANCE
from dimpoint.data.masks import centroids
from dimpoint.metrics.points import match_points
from dimpoint.training.recipe import Recipe


def labels_of(recipe: Recipe) -> Labels:
    """The labels that count: masks for a mask target, else the recipe's choice."""
    return "masks" if recipe.target.kind == "mask" else recipe.labels


def disagreements(sets: Sequence[DataSet], labels: Labels) -> Iterator[str]:
    """A line for every data set, opened with all its labels, whose points and masks disagree.

    They disagree where a frame's points and the centroids of its mask do not pair off within 3 pixels.
    """
    used = "masks" if labels == "masks" else "points"
    for part in sets:
        both = [sample for sample in part if sample.points is not None and sample.mask_path is not None]
        apart = [sample.name for sample in both if not _agree(sample)]
        if apart:
            yield (
                f"{part.name}: points and masks disagree in {len(apart)} of {len(both)} frames "
                f"(first '{apart[0]}'); the {used} are used; for a list: dimpoint data check {part.root}"
            )


def _agree(sample: Sample) -> bool:
    assert sample.points is not None
    centres = centroids(sample.read_mask())
    if len(centres) != len(sample.points):
        return False
    match = match_points(sample.points, [1.0] * len(sample.points), centres, POINT_TOLERANCE)
    return len(match.distances) == len(centres)
