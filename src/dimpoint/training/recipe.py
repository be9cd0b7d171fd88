"""Recipes: all settings of a training run, typed, documented and saved with the run."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dimpoint import limits
from dimpoint.errors import ConfigError, one_line
from dimpoint.model.input_rule import FORMER_KEYS, InputRule, under_input
from dimpoint.model.record import DecodeRule
from dimpoint.targets import TargetRule
from dimpoint.targets.growth import Growth
from dimpoint.text import explain, nearest

Range: TypeAlias = tuple[float, float]
Weight: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LossKind: TypeAlias = Literal["mse", "focal", "bce", "soft-iou", "dice", "mask-focal", "edge-mining"]

_FDEP = "fdep-"  # prefix of a host's recipe: trained with a foundation model


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkChoice(_Section):
    """Which network is trained."""

    name: str = Field(description="a name listed by `dimpoint networks`")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of its constructor")
    prior: float | None = Field(None, gt=0, lt=1, description="for hosts: initial probability everywhere")


class View(_Section):
    """The part of a frame that a training view shows."""

    kind: Literal["crop", "letterbox"] = Field(
        "crop", description="`crop`: a square at the frame's own scale; `letterbox`: the whole frame, fitted"
    )
    size: int = Field(256, ge=16, description="side of the square, network input pixels")
    near_target: float = Field(0.75, ge=0, le=1, description="`crop`: fraction of crops around a target")
    near_bright: float = Field(
        0.0,
        ge=0,
        le=1,
        description="`crop`: fraction of a target-free frame's crops around one of its bright spots",
    )
    near_false: float = Field(
        0.0,
        ge=0,
        le=1,
        description="`crop`: fraction of crops around a false object of the network in training, in frames "
        "without targets and outside the ignore regions of frames that have some",
    )
    mine_every: int = Field(4, ge=1, description="epochs between searches for false objects")


class Augmentation(_Section):
    """Random transformations of frame and labels, then of the counts. Probabilities in 0..1."""

    scale: Range = Field((0.75, 1.4), description="least and largest magnification, log-uniform")
    scale_probability: float = Field(0.6, ge=0, le=1)
    flips: bool = Field(True, description="mirror at random")
    quarter_turns: bool = Field(True, description="rotate by 0, 90, 180 or 270 degrees at random")
    rotation: float = Field(45.0, ge=0, le=180, description="largest free rotation, degrees")
    rotation_probability: float = Field(0.3, ge=0, le=1)
    contrast: float = Field(0.4, ge=0, description="multiply by exp(u), u uniform in +- this")
    offset: float = Field(0.2, ge=0, description="add u, u uniform in +- this, unit range")
    noise: float = Field(0.04, ge=0, description="largest sigma of Gaussian noise, unit range")
    noise_probability: float = Field(0.3, ge=0, le=1)
    hot_pixels: float = Field(0.0, ge=0, le=1, description="probability of a few isolated hot pixels")
    encoding: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that an 8-bit frame is seen with the gain and offset that the intensity "
        "rule `display` gives to the same frame in 16 bits or float32",
    )
    paste_probability: float = Field(0.0, ge=0, le=1, description="paste synthetic targets into the view")
    paste_targets: int = Field(3, ge=1, description="paste 1 to this many")
    copy_probability: float = Field(
        0.0, ge=0, le=1, description="copy targets of other frames into a frame with targets"
    )
    copy_targets: int = Field(3, ge=1, description="copy 1 to this many")
    copy_foreign: float = Field(
        0.2, ge=0, le=1, description="fraction of these frames whose copies come from any data set"
    )


class LossChoice(_Section):
    """The loss, see `dimpoint.training.losses`.

    For responses: `mse`, and `focal` (cross-entropy times |p - target| to the power `beta`). For masks:
    `bce`, `soft-iou`, `dice`, `mask-focal` and `edge-mining`. Several kinds are summed.
    """

    kind: LossKind | tuple[LossKind, ...] = "focal"
    weight: float = Field(1.0, gt=0)
    beta: float = Field(2.0, ge=0, description="`focal`: exponent that suppresses easy pixels")
    deep: float = Field(
        1.0, ge=0, description="weight of each further output of a network with deep supervision"
    )

    @property
    def kinds(self) -> tuple[LossKind, ...]:
        return (self.kind,) if isinstance(self.kind, str) else self.kind


class Optimizer(_Section):
    """AdamW; norms and biases have no weight decay unless `decay_all`."""

    lr: float = Field(4e-3, gt=0, description="the highest learning rate")
    weight_decay: float = Field(0.02, ge=0)
    decay_all: bool = Field(False, description="apply weight decay to norms and biases, too")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient, which is clipped to it")


class Schedule(_Section):
    """`cosine`: from `lr` to `final * lr`; `plateau`: times 0.1 when the validation score stagnates."""

    kind: Literal["cosine", "plateau"] = "cosine"
    warmup_steps: int = Field(100, ge=0, description="the rate rises linearly over these steps")
    final: float = Field(0.01, ge=0, le=1)
    patience: int = Field(10, ge=1, description="`plateau`: validations without improvement")


class FoundationChoice(_Section):
    """FDEP (arXiv 2512.05511): an encoder-decoder network trained with a frozen foundation model.

    The trained model does not contain it. All defaults are our own: the paper's values are not published.
    """

    source: str = Field("", description="a Hugging Face backbone: a folder or a hub id (`--foundation`)")
    taps: int = Field(4, ge=1, description="number of layers, evenly spaced, whose tokens are used")
    magnification: float = Field(1.0, gt=0, le=4, description="of the frames that the model sees")
    fusion: Literal["samf", "add"] = Field("samf", description="`add`: projected tokens are added (ablation)")
    randomise: bool = Field(False, description="frozen random weights (ablation: the effect of pretraining)")
    main: float = Field(1.0, ge=0, description="weight of the loss of the path with the fusion")
    light: float = Field(1.0, gt=0, description="weight of the loss of the path without the fusion")
    cache: bool = Field(
        True, description="compute features once for each frame; false: exactly, for each view"
    )
    cache_orientations: bool = Field(
        True, description="cache a frame's features for each orientation of its views"
    )
    cache_folder: str | None = Field(None, description="none: in the run's folder; runs can share one")
    cache_gb: float = Field(20.0, gt=0, description="largest size of the cache on disk, GB")


class Recipe(_Section):
    """Every setting of a run except its data."""

    name: str = Field(description="name of the recipe")
    description: str = ""
    network: NetworkChoice
    input: InputRule = Field(
        default_factory=InputRule, description="what the network sees of a frame, in training and in use"
    )
    labels: Literal["auto", "masks", "points"] = Field(
        "auto",
        description="which labels are used where a data set has both; auto: points for point targets. "
        "`points` with target.kind `mask`: masks grow from points",
    )
    growth: Growth = Field(default_factory=Growth, description="how masks grow from points")
    target: TargetRule = Field(default_factory=TargetRule, description="labels -> training target")
    view: View = Field(default_factory=View)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    loss: LossChoice = Field(default_factory=LossChoice)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    foundation: FoundationChoice | None = Field(None, description="FDEP; none: plain training")
    decode: DecodeRule = Field(default_factory=DecodeRule)
    epochs: int = Field(60, ge=1)
    most_minutes: float | None = Field(
        None, gt=0, description="longest duration; a slow machine trains for fewer epochs"
    )
    steps_per_epoch: int | None = Field(None, ge=1, description="none: one view per frame")
    batch: int = Field(16, ge=1)
    weights: dict[str, Weight] = Field(
        default_factory=dict, description="relative frequency of a data set's frames, by name (default 1)"
    )
    ema: float | None = Field(0.998, gt=0, lt=1, description="decay of the averaged weights; none: off")
    validation: float = Field(0.12, gt=0, lt=1, description="fraction of the frames that is held out")
    validation_by: Literal["scene", "time", "random"] = Field(
        "scene",
        description="how frames are held out: whole scenes, the last frames of each sequence, or at random",
    )
    checkpoint: Literal["best", "last"] = Field(
        "best",
        description="which weights are kept: the best on the held-out frames, or the last, which do not "
        "depend on them",
    )
    init: str | None = Field(
        None, description="the model whose weights training starts from, unless --init names another"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    refit: bool = Field(
        False,
        description="final training after all choices are made: held-out frames with targets are trained on, "
        "too, and the last weights are kept, at `decode.threshold`",
    )
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def grows(self) -> bool:
        """Whether the target is a mask that grows from points."""
        return self.target.kind == "mask" and self.labels == "points"

    def steps(self, frames: int) -> int:
        """Training steps of an epoch over so many frames."""
        return self.steps_per_epoch or max(1, frames // self.batch)

    @model_validator(mode="after")
    def _check_combinations(self) -> Recipe:
        low, high = self.augmentation.scale
        if not 0 < low <= high:
            raise ValueError(f"augmentation.scale: need 0 < low <= high, got {low} and {high}")
        if self.refit and self.schedule.kind == "plateau":
            raise ValueError("refit: schedule.kind 'plateau' needs validation, which a refit does not have")
        for key in ("paste_probability", "copy_probability"):
            if self.target.kind == "mask" and getattr(self.augmentation, key):
                raise ValueError(f"augmentation.{key}: pasted and copied targets have no mask")
        return self

    @model_validator(mode="after")
    def _check_view(self) -> Recipe:
        """Views must show frames at the scale at which they are detected."""
        fit, size = self.input.fit, self.view.size
        if self.view.kind == "letterbox" and fit != (size, size):
            raise ValueError(
                f"view.kind 'letterbox' of size {size} needs input.fit [{size}, {size}], so that detection "
                f"sees frames as training does; got {None if fit is None else list(fit)}"
            )
        if self.view.kind == "crop" and fit is not None:
            raise ValueError("input.fit needs view.kind 'letterbox': crops show frames at their own scale")
        if self.input.padding != "mirror":
            raise ValueError("input.padding: training needs 'mirror'; 'mean' is for imported models")
        return self


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    folder = resources.files("dimpoint") / "recipes"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(name_or_file: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name_or_file : str
        A shipped recipe, or a YAML file.
    overrides : iterable of str
        Changes as `key.sub=value`, values in YAML. Default: none.

    Returns
    -------
    Recipe

    Raises
    ------
    ConfigError
        If a key is unknown or missing, or a value is wrong; the message names the file and the key.

    Examples
    --------
    >>> from dimpoint.training.recipe import load_recipe
    >>> load_recipe("unet", ["optimizer.lr=1e-3"]).optimizer.lr
    0.001
    """
    content, file = _content(name_or_file, ())
    for override in overrides:
        _set(content, override)
    return parse_recipe(content, file)


def _content(name_or_file: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The keys of a recipe merged with those of its `base`, and the recipe's name in errors.

    `fdep-NAME` is the recipe NAME with a foundation model.
    """
    if name_or_file in above:
        raise ConfigError(f"recipe {name_or_file} is its own base: {' -> '.join((*above, name_or_file))}")
    plain = name_or_file.removeprefix(_FDEP)
    if plain != name_or_file and not _is_file(name_or_file):
        content, file = _content(plain, (*above, name_or_file))
        changes = {
            "name": f"{_FDEP}{content.get('name', plain)}",
            "description": f"{content.get('description', plain)}; trained with a frozen foundation model",
            "foundation": content.get("foundation") or {},
        }
        return _merged(content, changes), file
    file, text = _read(name_or_file)
    content = _yaml(text, file)
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a recipe is a mapping of keys to values")
    content = _under_input(content)
    base = content.pop("base", None)
    if base is None:
        return content, file
    if not isinstance(base, str):
        raise ConfigError(f"{file}: base: the name of a recipe, got {base!r}")
    if _is_file(base):  # relative to the recipe
        base = str(Path(file).parent / base)
    return _merged(_content(base, (*above, name_or_file))[0], content), file


def _merged(base: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `content` on top, section by section."""
    merged = dict(base)
    for key, value in content.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _under_input(content: dict[str, Any]) -> dict[str, Any]:
    """Move the keys of earlier versions into the section `input`."""
    present = under_input(content)
    view = content.get("view")
    if present is not content and isinstance(view, dict) and view.get("kind") == "letterbox":
        present["input"].setdefault("fit", [view.get("size")] * 2)
    return present


def parse_recipe(content: dict[str, Any], file: str) -> Recipe:
    """Validate the content of a recipe.

    Parameters
    ----------
    content : dict
        Keys and values.
    file : str
        The name used in errors.

    Raises
    ------
    ConfigError
        As `load_recipe`.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain(error, Recipe)}") from None


def _is_file(name_or_file: str) -> bool:
    return Path(name_or_file).suffix.lower() in (".yaml", ".yml")


def _read(name_or_file: str) -> tuple[str, str]:
    path = Path(name_or_file)
    if _is_file(name_or_file):
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file")
        return str(path), limits.read_text(path, ConfigError)
    if name_or_file not in recipe_names():
        near = nearest(name_or_file, recipe_names())
        hint = f"; did you mean '{near}'?" if near else ""
        raise ConfigError(
            f"no recipe '{name_or_file}' (shipped: {', '.join(recipe_names())}; or a .yaml file){hint}"
        )
    resource = resources.files("dimpoint") / "recipes" / f"{name_or_file}.yaml"
    return f"recipe {name_or_file}", resource.read_text(encoding="utf-8")


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write key=value, for example optimizer.lr=1e-3")
    first = key.partition(".")[0]
    if first in FORMER_KEYS:  # as earlier versions had it
        key = f"input.{FORMER_KEYS[first]}{key.removeprefix(first)}"
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: '{parent}' has no keys of its own")
    try:
        content[last] = float(value) if "e" in value.lower() else _yaml(value, f"--set {override}")
    except ValueError:  # no number such as 1e-3, which YAML reads as text
        content[last] = _yaml(value, f"--set {override}")


def _yaml(text: str, what: str) -> Any:
    """The content of a YAML text; ConfigError, which names `what`, if it is none."""
    try:
        limits.check_yaml(text, what, ConfigError)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what}: not valid YAML: {one_line(error)}") from None
