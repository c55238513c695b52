"""Lengths of time as people write them."""

from .parsing import parse

__all__ = ["parse"]
