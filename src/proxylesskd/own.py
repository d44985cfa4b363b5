"""What a user brings along: a function or class of a module of their own, named as ``package.module:attribute``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError, nearest


def is_own(name: str) -> bool:
    """Say whether a name is that of something of the user's own."""
    return ":" in name


def import_own(name: str) -> Callable[..., Any]:
    """Import ``package.module:attribute``, also from the working folder, and return the attribute.

    Names come from whoever starts a command, never from a file that somebody else made: importing runs the module.

    Raises:
        UserError: there is no such module, it lacks the attribute, or that cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        module = _import_from_working_folder(module_name, name, error)
    except (TypeError, ValueError) as error:  # no name of a module at all
        raise UserError(f"expected package.module:name, found '{name}'") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        hint = nearest(attribute, vars(module))
        raise UserError(f"expected a callable '{attribute}' in module '{module_name}', found none{hint}")
    return found  # type: ignore[no-any-return]


def _import_from_working_folder(module_name: str, name: str, error: ModuleNotFoundError) -> Any:
    # A console script does not have the working folder on its path, yet that is where one's own module lies.
    top = module_name.partition(".")[0]
    here = Path.cwd()
    if error.name != top or not ((here / top).is_dir() or (here / f"{top}.py").is_file()):
        raise UserError(f"expected an importable module for '{name}', found: {error}") from error
    sys.path.insert(0, str(here))
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as inner:
        raise UserError(f"expected an importable module for '{name}', found: {inner}") from inner
    finally:
        sys.path.remove(str(here))
