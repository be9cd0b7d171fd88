"""A protocol of another package: one object, seen by command line, tables, report and curve."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dimpoint
from dimpoint import extensions
from dimpoint.cli import build_app
from dimpoint.errors import ConfigError
from dimpoint.metrics.protocols import PROTOCOLS, Protocol, get_protocol
from evaluation_sets import all_points, detections, make_maps, make_set

MODULE = """
from dimpoint.metrics.points import match_points
from dimpoint.metrics.protocols import MatchingPoints, Protocol

def within_one(pred_xy, scores, truth_xy):
    return match_points(pred_xy, scores, truth_xy, radius=1.0)

STRICT = Protocol("strict", "Nearest within 1 px.", MatchingPoints(within_one), "objects", within_one)
OTHER = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "strict_protocol.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strict_protocol", raising=False)
    monkeypatch.setitem(PROTOCOLS, "strict", None)  # so that what a test adds is gone after it
    del PROTOCOLS["strict"]
    return "strict_protocol:STRICT"


@pytest.fixture
def installed(module: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The protocol as the entry point `strict` of an installed package."""
    points = EntryPoints([EntryPoint("strict", module, "dimpoint.protocols")])
    monkeypatch.setattr(extensions, "entry_points", lambda group: points.select(group=group))
    return "strict"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", ["points", "maps"])
def test_it_is_counted_listed_drawn_and_described(installed: str, tmp_path: Path, kind: str) -> None:
    data = make_set(tmp_path / "SET")
    shifted = {name: [(x + 2, y, s) for x, y, s in found] for name, found in all_points().items()}
    points = detections(tmp_path / "d.json", shifted)
    given = points if kind == "points" else make_maps(tmp_path / "maps")
    assert "strict (points or maps): Nearest within 1 px." in run("protocols")
    text = run("evaluate", "--predictions", given, "--data", data, "--protocol", "strict")
    assert "protocol strict" in text
    evaluation = dimpoint.evaluate(given, data, protocol="strict")
    tp, fn, fp = (0, 4, 5) if kind == "points" else (3, 1, 1)  # two pixels off is nothing within one
    assert [evaluation.numbers[key] for key in ("tp", "fn", "fp")] == [tp, fn, fp]
    curve = evaluation.curves["SET"]
    assert curve.protocol == "strict"
    assert curve.tp[-1] == (0 if kind == "points" else 4)  # at threshold 0 the spot of 0.2 is found, too
    page = evaluation.report(tmp_path / "report").read_text()
    assert "Nearest within 1 px." in page
    assert "<caption>protocol strict</caption>" in page
    assert "Protocol strict. The dot" in page
    assert "strict" in run("evaluate", "--predictions", given, "--data", data, "--protocol", "all")


def test_a_curve_agrees_with_counting_at_its_thresholds(installed: str, tmp_path: Path) -> None:
    data, maps = make_set(tmp_path / "SET"), make_maps(tmp_path / "maps")
    curve = dimpoint.evaluate(maps, data, protocol="strict").curves["SET"]
    for threshold in (0.1, 0.3, 0.55, 0.7, 0.99):
        row = int((curve.low <= threshold).argmax())
        numbers = dimpoint.evaluate(maps, data, protocol="strict", threshold=threshold).numbers
        assert (curve.tp[row], curve.fp[row]) == (numbers["tp"], numbers["fp"])


def test_it_is_named_by_module_and_object(module: str, tmp_path: Path) -> None:
    data, maps = make_set(tmp_path / "SET"), make_maps(tmp_path / "maps")
    assert "protocol strict" in run("evaluate", "--predictions", maps, "--data", data, "--protocol", module)


BAD = [
    # name, what is said
    ("spyre", "did you mean 'spire'"),
    ("SPIRE", "did you mean 'spire'"),
    ("nowhere_at_all:THING", "cannot be imported"),
    ("strict_protocol:MISSING", "cannot be imported"),
    ("strict_protocol:OTHER", "is 3, not a dimpoint.metrics.protocols.Protocol"),
]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("name", "message"), BAD, ids=[row[0] for row in BAD])
def test_what_is_no_protocol(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_protocol(name)


def test_one_line_adds_a_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Protocol("own", "Mine.", PROTOCOLS["opdc"].match, "pixels")
    monkeypatch.setitem(PROTOCOLS, own.name, own)
    assert get_protocol("own") is own
    assert "own (maps and masks): Mine." in run("protocols")


class TestNetworks:
    """Networks of others are found alike."""

    @pytest.fixture
    def network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        (tmp_path / "own_net.py").write_text(
            "import torch\nfrom dimpoint.networks import Network\n\n\nclass Own(Network):\n"
            "    def __init__(self, width: int = 3) -> None:\n        super().__init__()\n"
            "        self.layer = torch.nn.Conv2d(1, 1, width, padding=width // 2)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "own_net", raising=False)
        return "own_net:Own"

    def test_by_module_and_class(self, network: str) -> None:
        assert dimpoint.networks.create(network, width=5).layer.kernel_size == (5, 5)  # type: ignore[union-attr]

    def test_by_entry_point(self, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
        points = EntryPoints([EntryPoint("own", network, "dimpoint.networks")])
        monkeypatch.setattr(extensions, "entry_points", lambda group: points.select(group=group))
        assert "own" in dimpoint.networks.names()
        assert type(dimpoint.networks.create("own")).__name__ == "Own"

    @pytest.mark.usefixtures("network")
    @pytest.mark.parametrize(
        ("name", "message"), [("own_net:torch", "not a subclass"), ("ACM", "did you mean 'acm'")]
    )
    def test_what_is_no_network(self, name: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            dimpoint.networks.create(name)

    def test_a_model_file_does_not_choose_what_code_runs(self, network: str, tmp_path: Path) -> None:
        from dimpoint.errors import ModelFileError
        from dimpoint.model.checkpoint import load_model, save_model, traits
        from dimpoint.model.record import ModelMeta

        built = dimpoint.networks.create(network)
        meta = ModelMeta.model_validate({"name": "own", "network": network, **traits(built)})
        save_model(tmp_path / "model.safetensors", built, meta)
        del sys.modules["own_net"]
        with pytest.raises(ModelFileError, match="is not part of dimpoint"):
            load_model(tmp_path / "model.safetensors")
        (tmp_path / "run.json").write_text("{}")  # one's own training run
        assert load_model(tmp_path / "model.safetensors")[1].name == "own"
