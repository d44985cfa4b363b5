"""From a command to processes that serve: the settings, the token, and how many workers."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxylesskd.errors import UserError, require_extra

if TYPE_CHECKING:
    from fastapi import FastAPI

SETTINGS, TOKEN = "PROXYLESSKD_SERVE", "PROXYLESSKD_TOKEN"
SHORTEST = 16  # letters of a token


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, or of the variable ``PROXYLESSKD_TOKEN``, or None.

    Raises:
        UserError: the file cannot be read, or the token is too short to keep anybody out.
    """
    try:
        token = os.environ.get(TOKEN) if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a token in '{file}', found: {error}") from error
    if token is not None and len(token) < SHORTEST:
        raise UserError(
            f"expected a token of at least {SHORTEST} letters, found {len(token)}; try: openssl rand -hex 32"
        )
    return token


def check_open(host: str, token: str | None) -> None:
    """Stop before a service without a token can be asked from elsewhere.

    Raises:
        UserError: the host is not this machine alone, and there is no token.
    """
    if token is None and not _loopback(host):
        raise UserError(
            f"expected a token for a service that listens on {host}, found none; set {TOKEN} or give --token-file, or "
            "listen on 127.0.0.1"
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_service(settings: Mapping[str, Any], token: str | None) -> FastAPI:
    """Make the application of settings as JSON keeps them.

    Args:
        settings: ``recognizer`` and ``service``, keyword arguments of :class:`~proxylesskd.recognition.Recognizer` and
            of :func:`~proxylesskd.serving.service.make_service`.
        token: see there.
    """
    from proxylesskd.recognition.recognizer import Recognizer
    from proxylesskd.serving.service import make_service

    service = dict(settings["service"])
    keep = service.pop("keep_images", None)
    recognizer = Recognizer(**settings["recognizer"])
    return make_service(recognizer, token=token, keep_images=None if keep is None else Path(keep), **service)


def worker() -> FastAPI:
    """Make the application in a worker; the settings stand in its environment."""
    settings = json.loads(os.environ[SETTINGS])
    file = settings.pop("token_file")
    return open_service(settings, read_token(None if file is None else Path(file)))


def serve(
    settings: Mapping[str, Any],
    *,
    host: str,
    port: int,
    workers: int,
    token_file: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Serve until told to stop, and tell when everything is in order. Workers that die are replaced.

    Raises:
        UserError: a package is missing, the token is, or :func:`open_service` stops.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise require_extra("uvicorn", "serve", "proxylesskd serve") from error
    token = read_token(token_file)
    check_open(host, token)
    app = open_service(settings, token)
    tell(f"serving on http://{host}:{port}, described at /openapi.json; stop it with Ctrl-C")
    quiet: dict[str, Any] = {
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
    }  # addresses hold names
    if workers == 1:
        uvicorn.run(app, host=host, port=port, **quiet)
        return
    told = dict(settings) | {"token_file": None if token_file is None else str(token_file)}
    os.environ[SETTINGS] = json.dumps(told)
    uvicorn.run(f"{__name__}:worker", factory=True, host=host, port=port, workers=workers, **quiet)
