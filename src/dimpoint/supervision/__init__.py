"""Labels -> training targets."""

from __future__ import annotations

from dimpoint.supervision.targets import TargetRule, make_target

__all__ = ["TargetRule", "make_target"]
