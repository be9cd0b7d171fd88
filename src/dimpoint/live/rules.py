"""Rules of a YAML file: which tracks raise an alarm, and what an alarm sets off."""

from __future__ import annotations

import math
import re
from datetime import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from dimpoint import limits
from dimpoint.errors import ConfigError, one_line
from dimpoint.text import explain

_HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")
_SECRET = ("webhook",)  # keys whose values may hold a password
_MOST_ALARMS = 100  # rules of one file

XY = tuple[float, float]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Number = Annotated[float, AfterValidator(_finite)]


def _polygon(points: list[tuple[Number, Number]]) -> list[XY]:
    if len(points) < 3:
        raise ValueError("a zone has at least three corners [x, y]")
    after = [*points[1:], points[0]]
    area = sum(x * t - s * y for (x, y), (s, t) in zip(points, after, strict=True)) / 2
    if abs(area) < 1e-6:
        raise ValueError("the zone has no area: its corners lie on one line, or its sides cross")
    sides = list(zip(points, after, strict=True))
    for at, one in enumerate(sides):
        for other in sides[at + 2 : len(sides) - (at == 0)]:
            if _cross(one, other):
                raise ValueError("two sides of the zone cross; list its corners in order along its border")
    return points


def _cross(one: tuple[XY, XY], other: tuple[XY, XY]) -> bool:
    def side(of: XY, line: tuple[XY, XY]) -> float:
        (x, y), (s, t) = line
        return (s - x) * (of[1] - y) - (t - y) * (of[0] - x)

    return side(one[0], other) * side(one[1], other) < 0 and side(other[0], one) * side(other[1], one) < 0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlarmRule(_Section):
    """When a confirmed track raises an alarm.

    watch: zones in which it must be; everywhere if left out. ignore: zones in which it does not count.
    min_duration: seconds since its first point. min_speed, max_speed: pixels a second over the last second.
    min_score: mean score of its measured points. hours: local times such as 22:00-06:00, always if left out.
    pause: seconds after an alarm in which this rule raises none.
    """

    name: str = Field(min_length=1, max_length=100)
    watch: list[str] = []
    ignore: list[str] = []
    min_duration: Number = Field(0.0, ge=0)
    min_speed: Number = Field(0.0, ge=0)
    max_speed: Number | None = Field(None, gt=0)
    min_score: Number = Field(0.0, ge=0, le=1)
    hours: list[str] = []
    pause: Number = Field(0.0, ge=0)

    @field_validator("hours", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, value: list[str]) -> list[str]:
        for text in value:
            _span(text)
        return value

    def at_work(self, moment: time) -> bool:
        """Whether the rule counts at this time of day."""
        minute = moment.hour * 60 + moment.minute
        return not self.hours or any(_within(minute, *_span(text)) for text in self.hours)


class Webhook(_Section):
    """A POST of the alarm as JSON. timeout: seconds for the whole request. headers: values may name an
    environment variable, as in `Bearer ${TOKEN}`. keep_hours: after which an alarm is no longer sent.
    """

    url: str
    timeout: Number = Field(5.0, gt=0, le=300)
    headers: dict[str, str] = {}
    keep_hours: Number = Field(24.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            reachable = bool(address.hostname) and address.port != 0
        except ValueError:  # a port that is no number or above 65535, an IPv6 address without ]
            reachable = False
        if not reachable or not re.fullmatch(r"https?://[^/\s?#@]+([/?][^\s#]*)?", value):
            raise ValueError(
                "an address such as https://host/path or https://host:8443/path; user and password go into "
                "headers"
            )
        return value


class Command(_Section):
    """A program with its arguments, run without a shell; the alarm is its standard input, as JSON.

    {rule}, {track}, {x}, {y}, {time}, {source} and {clip} in arguments are replaced. timeout: seconds.
    """

    run: list[str] = Field(min_length=1)
    timeout: Number = Field(30.0, gt=0)


class ClipRule(_Section):
    """A video around the alarm. before, after: seconds. most: seconds, while the track goes on. memory_mb:
    for the frames before an alarm.
    """

    before: Number = Field(5.0, ge=0, le=600)
    after: Number = Field(5.0, ge=0, le=600)
    most: Number = Field(60.0, gt=0, le=3600)
    memory_mb: int = Field(256, ge=1, le=65536)


class Rules(_Section):
    """The content of a rules file. zones: name -> corners [x, y] in pixels. size: [width, height] of the
    frames that they are drawn on; in frames of another size they are scaled.
    """

    zones: dict[str, Annotated[list[tuple[Number, Number]], AfterValidator(_polygon)]] = {}
    size: tuple[int, int] | None = None
    alarms: list[AlarmRule] = Field(default=[], max_length=_MOST_ALARMS)
    webhook: Webhook | None = None
    command: Command | None = None
    clip: ClipRule | None = None


def read_rules(path: Path) -> Rules:
    """The rules of a YAML file. Raises ConfigError, naming file and key, for anything that is wrong."""
    text = limits.read_text(path, ConfigError)
    try:
        limits.check_yaml(text, str(path), ConfigError)
        content = yaml.load(text, _Unique)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: rules are a mapping with the keys {', '.join(Rules.model_fields)}")
    try:
        rules = Rules.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Rules, _SECRET)}") from None
    _check_names(rules, path)
    return rules


class _Unique(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key '{key}' stands twice")
        return super().construct_mapping(node, deep)


def _check_names(rules: Rules, path: Path) -> None:
    for at, rule in enumerate(rules.alarms):
        for key, names in (("watch", rule.watch), ("ignore", rule.ignore)):
            for name in names:
                if name not in rules.zones:
                    known = f"zones are {', '.join(rules.zones)}" if rules.zones else "there are no zones"
                    raise ConfigError(f"{path}: alarms.{at}.{key}: no zone '{name}'; {known}")
        if rule.max_speed is not None and rule.max_speed < rule.min_speed:
            raise ConfigError(f"{path}: alarms.{at}.max_speed: is below min_speed")
    names = [rule.name for rule in rules.alarms]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ConfigError(f"{path}: alarms.{at}.name: '{name}' is the name of an earlier rule")
    if rules.size is not None and min(rules.size) < 1:
        raise ConfigError(f"{path}: size: width and height are at least 1")
    if not rules.alarms and (rules.webhook or rules.command or rules.clip):
        raise ConfigError(f"{path}: alarms: there are none, so nothing would ever be set off")


def _span(text: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(text.strip())
    begin, end = (60 * int(found[1]) + int(found[2]), 60 * int(found[3]) + int(found[4])) if found else (0, 0)
    if found is None or end > 24 * 60 or begin == end:
        raise ValueError(f"'{text}' is no span of hours such as 22:00-06:00")
    return begin, end


def _within(minute: int, begin: int, end: int) -> bool:
    return begin <= minute < end if begin < end else minute >= begin or minute < end
