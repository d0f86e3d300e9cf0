"""Failover: the primary instances; the secondary ones when no primary may be answered, as in Route 53."""

from __future__ import annotations

from collections.abc import Sequence

from ..instances import Instance


def preferred(instances: Sequence[Instance]) -> list[Instance]:
    return [each for each in instances if each.spec.failover == "primary"] or list(instances)
