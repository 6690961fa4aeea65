"""Values that are tried with the exhaustive tests alone."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["seldom"]


def seldom(*values: Any) -> list[Any]:
    """Return values for `parametrize` that are like others, which are tried at each change."""
    return [pytest.param(value, marks=pytest.mark.exhaustive) for value in values]
