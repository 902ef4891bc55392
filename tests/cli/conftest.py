"""The fixture `install`: small distributions that exist for one test."""

from __future__ import annotations

from distributions import install

__all__ = ["install"]
