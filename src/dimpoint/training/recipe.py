"""A recipe: every setting of a training run, typed, documented and saved with the run."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dimpoint import limits
from dimpoint.errors import ConfigError
from dimpoint.model.input_rule import FORMER_KEYS, InputRule, under_input
from dimpoint.model.record import DecodeRule
from dimpoint.targets import TargetRule
from dimpoint.targets.growth import Growth
from dimpoint.text import explain, nearest

Range: TypeAlias = tuple[float, float]
LossKind: TypeAlias = Literal["mse", "focal", "bce", "soft-iou", "dice", "mask-focal", "edge-mining"]

_TAUGHT = "fdep-"  # before a host's recipe: trained with a foundation model


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkChoice(_Section):
    """Which network is trained."""

    name: str = Field(description="a name that `dimpoint networks` lists")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of its constructor")
    prior: float | None = Field(
        None, gt=0, lt=1, description="for hosts: the probability that an untrained network gives everywhere"
    )


class View(_Section):
    """What part of a frame the network sees in training."""

    kind: Literal["crop", "letterbox"] = Field(
        "crop", description="`crop`: a square at the frame's own scale; `letterbox`: the whole frame, fitted"
    )
    size: int = Field(256, ge=16, description="side of the square, network input pixels")
    near_target: float = Field(0.75, ge=0, le=1, description="`crop`: share of crops that hold a target")
    near_bright: float = Field(
        0.0,
        ge=0,
        le=1,
        description="`crop`: share of a target-free frame's crops that hold one of its bright spots",
    )
    near_false: float = Field(
        0.0,
        ge=0,
        le=1,
        description="`crop`: share of the crops that hold a false object of the network in training, in "
        "frames without targets and outside the ignore regions of frames that have some",
    )
    mine_every: int = Field(4, ge=1, description="epochs after which false objects are looked for anew")


class Augmentation(_Section):
    """Random changes of frame and points together, then of the counts. Probabilities in 0..1."""

    scale: Range = Field((0.75, 1.4), description="least and largest magnification, log-uniform")
    scale_probability: float = Field(0.6, ge=0, le=1)
    flips: bool = Field(True, description="mirror at random")
    quarter_turns: bool = Field(True, description="turn by 0, 90, 180 or 270 degrees at random")
    rotation: float = Field(45.0, ge=0, le=180, description="free rotation by up to this, degrees")
    rotation_probability: float = Field(0.3, ge=0, le=1)
    contrast: float = Field(0.4, ge=0, description="counts times exp(u), u uniform within +- this")
    offset: float = Field(0.2, ge=0, description="counts plus u, u uniform within +- this")
    noise: float = Field(0.04, ge=0, description="Gaussian noise of a random sigma up to this")
    noise_probability: float = Field(0.3, ge=0, le=1)
    hot_pixels: float = Field(0.0, ge=0, le=1, description="probability of a few lone hot pixels, no targets")
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
        0.0, ge=0, le=1, description="set targets of other frames into a frame that has some"
    )
    copy_targets: int = Field(3, ge=1, description="set in 1 to this many")
    copy_foreign: float = Field(
        0.2, ge=0, le=1, description="share of the frames whose copies come from another data set"
    )


class LossChoice(_Section):
    """What is made small; see `dimpoint.training.losses`.

    For responses `mse`, and `focal`: cross-entropy times |p - target| to the power `beta`. For masks `bce`,
    `soft-iou`, `dice`, `mask-focal` and `edge-mining`. Several kinds are added.
    """

    kind: LossKind | tuple[LossKind, ...] = "focal"
    weight: float = Field(1.0, gt=0)
    beta: float = Field(2.0, ge=0, description="`focal`: how far easy pixels are left aside")
    deep: float = Field(
        1.0, ge=0, description="weight of each further output of a network with deep supervision"
    )

    @property
    def kinds(self) -> tuple[LossKind, ...]:
        return (self.kind,) if isinstance(self.kind, str) else self.kind


class Optimizer(_Section):
    """AdamW; norms and biases are not decayed unless `decay_all`."""

    lr: float = Field(4e-3, gt=0, description="the highest learning rate")
    weight_decay: float = Field(0.02, ge=0)
    decay_all: bool = Field(False, description="decay norms and biases too")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient")


class Schedule(_Section):
    """`cosine`: from `lr` to `final * lr`; `plateau`: times 0.1 when the validation F1 stands still."""

    kind: Literal["cosine", "plateau"] = "cosine"
    warmup_steps: int = Field(100, ge=0, description="the rate rises linearly over these steps")
    final: float = Field(0.01, ge=0, le=1)
    patience: int = Field(10, ge=1, description="`plateau`: validations without progress")


class FoundationChoice(_Section):
    """FDEP (arXiv 2512.05511): a frozen foundation model that teaches an encoder-decoder network.

    Nothing of it is in the trained model. All values are our own choices: the paper's are not published.
    """

    source: str = Field("", description="a Hugging Face backbone: a folder or a hub id (`--foundation`)")
    taps: int = Field(4, ge=1, description="how many layers, evenly spaced, give their tokens")
    magnification: float = Field(1.0, gt=0, le=4, description="of the frames that the model sees")
    fusion: Literal["samf", "add"] = Field("samf", description="`add`: projected tokens are added (ablation)")
    randomise: bool = Field(False, description="random weights, frozen (ablation: what the model knows)")
    main: float = Field(1.0, ge=0, description="weight of the loss of the path through the fusion")
    light: float = Field(1.0, gt=0, description="weight of the loss of the path that stays in use")
    cache: bool = Field(
        True, description="features are computed once for each frame; false: once for each view, exactly"
    )
    cache_orientations: bool = Field(
        True, description="a frame's features for each way that views are flipped and turned by quarters"
    )
    cache_folder: str | None = Field(None, description="none: in the run's folder; runs may share one")
    cache_gb: float = Field(20.0, gt=0, description="most that the cache takes on disk")


class Recipe(_Section):
    """Everything that decides a run besides the data."""

    name: str = Field(description="names the run's model")
    description: str = ""
    network: NetworkChoice
    input: InputRule = Field(
        default_factory=InputRule, description="what the network sees of a frame, in training and in use"
    )
    labels: Literal["auto", "masks", "points"] = Field(
        "auto",
        description="which labels count where a data set has both; auto: points for point targets; points "
        "for target.kind `mask`: masks grow from them",
    )
    growth: Growth = Field(default_factory=Growth, description="how masks grow from points")
    target: TargetRule = Field(default_factory=TargetRule, description="labels -> training target")
    view: View = Field(default_factory=View)
    augmentation: Augmentation = Field(default_factory=Augmentation)
    loss: LossChoice = Field(default_factory=LossChoice)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    foundation: FoundationChoice | None = Field(None, description="a frozen teacher; none: plain training")
    decode: DecodeRule = Field(default_factory=DecodeRule)
    epochs: int = Field(60, ge=1)
    most_minutes: float | None = Field(
        None, gt=0, description="most that a run takes: on a slow machine it has fewer epochs"
    )
    steps_per_epoch: int | None = Field(None, ge=1, description="none: one view of each frame an epoch")
    batch: int = Field(16, ge=1)
    weights: dict[str, float] = Field(
        default_factory=dict, description="how often a data set's frames are drawn (1: as often as any)"
    )
    ema: float | None = Field(0.998, gt=0, lt=1, description="decay of the averaged weights; none: off")
    validation: float = Field(0.12, gt=0, lt=1, description="part of the training frames that is held out")
    validation_by: Literal["scene", "time", "random"] = Field(
        "scene",
        description="how frames are held out: whole scenes; the last frames of each sequence; any",
    )
    checkpoint: Literal["best", "last"] = Field(
        "best",
        description="which weights are kept: the best by the held-out frames, or the last, for which the "
        "held-out frames stay unseen",
    )
    init: str | None = Field(
        None, description="the model whose weights training starts from, unless --init names another"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    refit: bool = Field(
        False,
        description="a last fit, when everything is chosen: the validation part's frames with targets are "
        "trained on too, and the last weights are kept, at `decode.threshold`",
    )
    seed: int = 0

    @property
    def grows(self) -> bool:
        """Whether masks are learnt, and grow from points."""
        return self.target.kind == "mask" and self.labels == "points"

    @model_validator(mode="after")
    def _ranges(self) -> Recipe:
        low, high = self.augmentation.scale
        if not 0 < low <= high:
            raise ValueError(f"augmentation.scale: need 0 < low <= high, got {low} and {high}")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        if self.refit and self.schedule.kind == "plateau":
            raise ValueError("refit: schedule.kind 'plateau' needs a validation F1, which a refit has not")
        for key in ("paste_probability", "copy_probability"):
            if self.target.kind == "mask" and getattr(self.augmentation, key):
                raise ValueError(f"augmentation.{key}: targets set into a frame have no mask yet")
        return self

    @model_validator(mode="after")
    def _seen(self) -> Recipe:
        """Whole frames are fitted in use as in training, and crops are of frames at their own scale."""
        fit, size = self.input.fit, self.view.size
        if self.view.kind == "letterbox" and fit != (size, size):
            raise ValueError(
                f"view.kind 'letterbox' of size {size} needs input.fit [{size}, {size}], so that frames are "
                f"seen in use as in training; got {None if fit is None else list(fit)}"
            )
        if self.view.kind == "crop" and fit is not None:
            raise ValueError("input.fit needs view.kind 'letterbox': crops are of frames at their own scale")
        if self.input.padding != "mirror":
            raise ValueError("input.padding: views are continued by mirroring; 'mean' is for imports")
        return self


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    folder = resources.files("dimpoint") / "recipes"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(name_or_file: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name or any YAML file; `overrides` are `key.sub=value`, values in YAML.

    Raises ConfigError naming the file and key for an unknown key (with the nearest known one), a wrong
    type or a value out of range.
    """
    content, file = _content(name_or_file, ())
    for override in overrides:
        _set(content, override)
    return parse_recipe(content, file)


def _content(name_or_file: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The keys of a recipe on top of those of its `base`, and what errors call it.

    `fdep-NAME` is the recipe NAME with a foundation model as its teacher.
    """
    if name_or_file in above:
        raise ConfigError(f"recipe {name_or_file} is its own base: {' -> '.join((*above, name_or_file))}")
    plain = name_or_file.removeprefix(_TAUGHT)
    if plain != name_or_file and not _is_file(name_or_file):
        content, file = _content(plain, (*above, name_or_file))
        taught = {
            "name": f"{_TAUGHT}{content.get('name', plain)}",
            "description": f"{content.get('description', plain)}; taught by a frozen foundation model",
            "foundation": content.get("foundation") or {},
        }
        return _over(content, taught), file
    file, text = _read(name_or_file)
    try:
        limits.check_yaml(text, file, ConfigError)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a recipe is a mapping of keys to values")
    content = _under_input(content)
    base = content.pop("base", None)
    if base is None:
        return content, file
    if not isinstance(base, str):
        raise ConfigError(f"{file}: base: the name of a recipe, got {base!r}")
    if _is_file(base):  # beside the recipe that names it
        base = str(Path(file).parent / base)
    return _over(_content(base, (*above, name_or_file))[0], content), file


def _over(base: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `content` on top, section by section."""
    merged = dict(base)
    for key, value in content.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _over(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _under_input(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe of an earlier version, where the keys of the section `input` stood one by one."""
    present = under_input(content)
    view = content.get("view")
    if present is not content and isinstance(view, dict) and view.get("kind") == "letterbox":
        present["input"].setdefault("fit", [view.get("size")] * 2)
    return present


def parse_recipe(content: dict[str, Any], file: str) -> Recipe:
    """Validate the content of a recipe; `file` is named in errors."""
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
    content[last] = _value(value)


def _value(text: str) -> Any:
    """YAML, and numbers such as 1e-3 that YAML takes for text."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except ValueError:
        return yaml.safe_load(text)
