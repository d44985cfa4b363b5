"""Room 2: networks: backbones by name, their preprocessing and their weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxylesskd.models.registry import (
        ModelSpec,
        create_model,
        list_models,
        memory_format_of,
        register_model,
        spec_of,
    )

__all__ = ["ModelSpec", "create_model", "list_models", "memory_format_of", "register_model", "spec_of"]


def __getattr__(name: str) -> Any:
    """Import when first touched: who runs an exported file needs a preprocessing and no PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module 'proxylesskd.models' has no attribute '{name}'")
    return getattr(import_module("proxylesskd.models.registry"), name)
