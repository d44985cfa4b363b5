"""A file is written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from proxylesskd.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new, never a part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o666 & ~umask())  # NamedTemporaryFile makes private files
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"expected to be able to write '{path}', found: {error}") from error


def umask() -> int:
    """Return which permissions new files are not given."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
