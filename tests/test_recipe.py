"""Recipes: shipped ones, overrides, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dimpoint.errors import ConfigError
from dimpoint.training.recipe import Recipe, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_survive_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_published_recipe_says_what_the_paper_says() -> None:
    recipe = load_recipe("spire")
    assert (recipe.epochs, recipe.batch, recipe.optimizer.lr) == (230, 8, 5e-3)
    assert (recipe.loss.kind, recipe.loss.weight) == ("mse", 2.0)
    assert not recipe.augmentation.flips


OVERRIDES = [
    # text, key path, value
    ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),  # YAML alone reads 1e-3 as text
    ("epochs=3", ("epochs",), 3),
    ("ema=null", ("ema",), None),
    ("augmentation.scale=[0.5, 2]", ("augmentation", "scale"), (0.5, 2.0)),
    ("network.name=spire", ("network", "name"), "spire"),
    ("weights.NUAA=2", ("weights", "NUAA"), 2.0),  # a section that the recipe leaves out
]


@pytest.mark.parametrize(("text", "path", "value"), OVERRIDES)
def test_overrides(text: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_recipe("spire-sirst", [text])
    for key in path:
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    assert found == value


BAD = [
    # YAML, what the message must name
    ("name: a\nnetwork: {name: spire}\nepoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
    ("name: a\nnetwork: {name: spire}\noptimizer: {learning_rate: 1, lrr: 2}", "did you mean 'lr'?"),
    ("name: a\nnetwork: {name: spire}\nepochs: many", "epochs"),
    ("name: a\nnetwork: {name: spire}\nepochs: 0", "epochs"),
    ("name: a\nnetwork: {name: spire}\naugmentation: {scale: [2, 1]}", "augmentation.scale"),
    ("name: a\nnetwork: {name: spire}\nintensity: {kind: range, low: 9, high: 1}", "low (9.0) must be below"),
    ("name: a", "missing key 'network'"),
    (
        "name: a\nnetwork: {name: spire}\nrefit: true\nschedule: {kind: plateau}",
        "mine.yaml: refit: schedule.kind 'plateau' needs",
    ),
    ("name: a\nnetwork: {name: spire}\nweights: {a: .nan}", "weights.a: input should be a finite number"),
    ("name: a\nnetwork: {name: spire}\nweights: {a: .inf}", "weights.a: input should be a finite number"),
    ("name: a\nnetwork: {name: spire}\nweights: {a: -1}", "weights.a: input should be greater than or equal"),
    ("name: a\nnetwork: {name: spire}\nseed: -1", "seed: input should be greater than or equal to 0"),
    ("name: a\nnetwork: {name: spire}\nseed: 4294967296", "seed: input should be less than"),
    ("- 1", "a recipe is a mapping"),
    ("a: [", "not valid YAML"),
    ("", "a recipe is a mapping"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_recipes_are_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(file))
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spire'"):
        load_recipe("spier")
    with pytest.raises(ConfigError, match="no such recipe file"):
        load_recipe("missing.yaml")


@pytest.mark.parametrize(
    "text", ["epochs", "=3", "epochs.deep=3", "loss.kind=[mse", "name=2024-99-99", "name=\0"]
)
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_recipe("spire", [text])


BASED = """
base: {base}
name: mine
network:
  options: {{widths: [8, 16]}}
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_recipe_stands_on_its_base_section_by_section(tmp_path: Path) -> None:
    ours = load_recipe(written(tmp_path / "mine.yaml", BASED.format(base="unet")))
    theirs = load_recipe("unet")
    assert (ours.name, ours.network.name, ours.network.options) == ("mine", "unet", {"widths": [8, 16]})
    assert ours.model_copy(update={"name": "", "network": None}) == theirs.model_copy(
        update={"name": "", "network": None}
    )


def test_a_base_may_be_a_file_beside_the_recipe(tmp_path: Path) -> None:
    written(tmp_path / "first.yaml", "base: unet\nepochs: 7")
    assert load_recipe(written(tmp_path / "second.yaml", BASED.format(base="first.yaml"))).epochs == 7


WRONG_BASES = [
    # base, what the message must say
    ("mine.yaml", "is its own base"),
    ("unett", "did you mean 'unet'?"),
    ("[1]", "base: the name of a recipe"),
]


@pytest.mark.parametrize(("base", "message"), WRONG_BASES)
def test_wrong_bases(tmp_path: Path, base: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(written(tmp_path / "mine.yaml", BASED.format(base=base)))
    assert message in str(caught.value)


def test_fdep_shares_everything_else_with_the_plain_recipe(tmp_path: Path) -> None:
    plain, taught = load_recipe("dnanet"), load_recipe("fdep-dnanet", ["foundation.source=x"])
    assert plain.foundation is None
    assert taught.foundation is not None
    assert taught.name == "fdep-dnanet"
    own = {"name", "description", "foundation"}
    assert plain.model_dump(exclude=own) == taught.model_dump(exclude=own)
    with pytest.raises(ConfigError, match="did you mean 'sourc"):
        load_recipe("fdep-dnanet", ["foundation.sourcee=x"])


REFUSED_MASKS = [
    # changes of the recipe unet, what the message must name
    (["target.stride=4"], "stride 1"),
    (["augmentation.paste_probability=0.5"], "paste_probability"),
    (["augmentation.copy_probability=0.5"], "copy_probability"),
    (["loss.kind=[dice, bcee]"], "loss.kind"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED_MASKS)
def test_what_does_not_go_with_masks(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("unet", changes)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ACM", "acm"), ("Spire-SIRST", "spire-sirst"), ("SSHDNet", "sshdnet"), ("fdep-ACM", "acm")],
)
def test_a_name_in_other_letter_case_gets_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        load_recipe(name)
