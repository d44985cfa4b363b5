"""Options behind a path in a source URI: ``PATH?name=value&name=value``."""

from __future__ import annotations

import re
from pathlib import Path

from proxylesskd.errors import UserError, nearest

_OPTIONS = re.compile(r"\?(\w+=[^?]*)$")


def split_options(where: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return the path and the options behind it.

    Only ``?name=`` begins options, so that a question mark may be part of a name or a pattern; a path that exists as
    it stands has none.

    Args:
        where: what follows the scheme.
        known: names of options.

    Raises:
        UserError: an option is unknown, given twice or empty.
    """
    found = _OPTIONS.search(where)
    if found is None or Path(where).exists():
        return where, {}
    options: dict[str, str] = {}
    for word in found[1].split("&"):
        name, _, value = word.partition("=")
        if name not in known:
            raise UserError(
                f"expected options {', '.join(known)} behind '?' in '{where}', found '{name}'{nearest(name, known)}"
            )
        if name in options or not value:
            raise UserError(f"expected one value for the option {name} in '{where}', found '{found[1]}'")
        options[name] = value
    return where[: found.start()], options
