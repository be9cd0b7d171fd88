"""Labels -> training targets."""

from __future__ import annotations

from dimpoint.targets.rules import TargetRule, make_target

__all__ = ["TargetRule", "make_target"]
