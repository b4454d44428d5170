"""The benchmark: scopekit beside its peers, in one run, on one machine."""

from __future__ import annotations

__all__ = ()
