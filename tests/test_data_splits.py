"""A validation part held out of the training data."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimpoint.datasets.dataset import Sample
from dimpoint.datasets.splits import hold_out
from dimpoint.errors import ConfigError


def samples(*names: str) -> list[Sample]:
    return [Sample(name, Path(f"{name}.png"), None, None) for name in names]


def held(chosen: list[Sample], fraction: float, seed: int) -> set[str]:
    return {sample.name for sample in hold_out(chosen, fraction, seed)[1]}


HUNDRED = samples(*(f"{i:06}" for i in range(100)))

name_lists = st.lists(st.text("abc/0", min_size=1, max_size=5), min_size=2, max_size=40, unique=True)


@given(name_lists, st.floats(0.01, 0.9), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_partition_that_no_order_changes(
    names: list[str], fraction: float, seed: int, shuffler: random.Random
) -> None:
    wanted = max(1, round(fraction * len(names)))
    if wanted == len(names):  # nothing to train on, refused below
        return
    train, validation = hold_out(samples(*names), fraction, seed)
    assert len(validation) == wanted
    order = {name: i for i, name in enumerate(names)}
    for part in (train, validation):  # each part keeps the order given
        assert [s.name for s in part] == sorted((s.name for s in part), key=order.__getitem__)
    assert {s.name for s in train} | {s.name for s in validation} == set(names)
    shuffled = samples(*shuffler.sample(names, len(names)))
    assert held(shuffled, fraction, seed) == {s.name for s in validation}


def test_the_seed_decides_and_the_choice_is_fixed_for_all_time() -> None:
    assert held(HUNDRED, 0.1, 0) != held(HUNDRED, 0.1, 1)
    assert sorted(held(HUNDRED, 0.05, 0)) == ["000040", "000044", "000052", "000075", "000092"]


def test_a_larger_fraction_holds_the_smaller_one() -> None:
    assert held(HUNDRED, 0.1, 3) < held(HUNDRED, 0.2, 3)


def test_one_frame_more_or_less_moves_at_most_one_other() -> None:
    before, after = held(HUNDRED, 0.2, 0), held([*HUNDRED, *samples("new")], 0.2, 0)
    assert len(before - after) <= 1


def test_groups_stay_together() -> None:
    frames = samples(*(f"{sequence}/{i}" for sequence in "abcdef" for i in range(5)))
    train, validation = hold_out(frames, 0.3, 0, groups=lambda sample: sample.name[0])
    assert {s.name[0] for s in train}.isdisjoint(s.name[0] for s in validation)
    assert len(validation) == 10  # whole groups of 5, until 9 are reached


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="must be between 0 and 1"):
        hold_out(HUNDRED, fraction, 0)


@pytest.mark.parametrize("names", [[], ["a"]])
def test_too_few_samples_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="nothing is left to train on"):
        hold_out(samples(*names), 0.5, 0)


def test_a_single_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="in 1 group: nothing is left to train on"):
        hold_out(HUNDRED, 0.1, 0, groups=lambda _: "one")
