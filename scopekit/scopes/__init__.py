"""Scopes: where a value is valid."""

from scopekit.scopes.helper import as_scope, scope, scope_key
from scopekit.scopes.processors import (
    CLIENT,
    CudaProc,
    Kind,
    OSProc,
    Processor,
    ThreadProc,
    Worker,
    processor_type,
)
from scopekit.scopes.scope import (
    AnyScope,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    Scope,
    TaintScope,
    UnionScope,
    constrain,
)
from scopekit.scopes.sealing import is_sealed, sealed

__all__ = (
    "CLIENT",
    "AnyScope",
    "CudaProc",
    "DefaultScope",
    "ExactScope",
    "InvalidScope",
    "Kind",
    "LabelScope",
    "NodeScope",
    "OSProc",
    "ProcessScope",
    "Processor",
    "ProcessorTypeScope",
    "Scope",
    "TaintScope",
    "ThreadProc",
    "UnionScope",
    "Worker",
    "as_scope",
    "constrain",
    "is_sealed",
    "processor_type",
    "scope",
    "scope_key",
    "sealed",
)
