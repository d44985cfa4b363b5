"""The service itself: addresses, what each takes and what it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from proxylesskd import __version__
from proxylesskd.atomic import write_atomically
from proxylesskd.errors import UserError
from proxylesskd.recognition.answers import Identification, Verification
from proxylesskd.recognition.gallery import LONGEST_NAME, Gallery
from proxylesskd.recognition.recognizer import Recognizer
from proxylesskd.recognition.thresholds import CROSS, SINGLE, far_name
from proxylesskd.serving.answers import Embedding, Enrolled, Health, Model, Pair, Removed
from proxylesskd.serving.guard import Guard
from proxylesskd.serving.problem import RefusalError, documented
from proxylesskd.serving.rate import Rate

PHOTO_TYPES = ("image/jpeg", "image/png", "image/bmp", "image/webp", "application/octet-stream")
_PHOTO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one photo.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PHOTO_TYPES},
    }
}
Identity = Annotated[str, Query(min_length=1, max_length=LONGEST_NAME, description="Whose photo it is.")]
Far = Annotated[float, Query(gt=0, le=1, description="False accept rate by which the threshold is chosen.")]
Fpir = Annotated[float, Query(gt=0, le=1, description="Share of strangers who may be named.")]
Top = Annotated[int, Query(ge=1, le=1000, description="How many of the most similar identities to tell of.")]


def make_service(
    recognizer: Recognizer,
    gallery: str | Path,
    *,
    token: str | None = None,
    each_second: float = 20.0,
    burst: int = 40,
    at_once: int = 8,
    largest: int = 16 << 20,
    patience: float = 20.0,
    keep_images: Path | None = None,
    same_space: bool = False,
) -> FastAPI:
    """Make the ASGI application.

    Args:
        recognizer: compares and finds faces; opened here, so that a wrong one stops before anybody asks.
        gallery: its file; made where there is none. One that the model's teacher made is searched, not enrolled into.
        token: that requests must bear.
        each_second: requests of one client, by address.
        burst: how many of them may come at once.
        at_once: requests that may run at a time.
        largest: bytes of a body.
        patience: seconds that a body may take.
        keep_images: folder for enrolled photos; by default none is stored.
        same_space: see :meth:`proxylesskd.recognition.recognizer.Recognizer.identify`.

    Raises:
        UserError: the model cannot be opened, or the gallery is of another one that is not its teacher.
    """
    entries = Gallery(gallery) if Path(gallery).is_file() else Gallery.create(gallery, recognizer.model)
    entries.mode_of(recognizer.model, same_space=same_space)
    app = FastAPI(
        title="ProxylessKD recognition",
        version=__version__,
        description="Compares, enrols and identifies faces. No photo is stored unless the service was told to.",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
    )
    _tell(app, recognizer)
    _compare(app, recognizer)
    _search(app, recognizer, entries, keep_images, same_space)
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(UserError, _unusable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    rate = Rate(each_second, burst)
    app.add_middleware(Guard, token=token, rate=rate, at_once=at_once, largest=largest, patience=patience)
    return app


def _tell(app: FastAPI, recognizer: Recognizer) -> None:
    @app.get("/health")
    def health() -> Health:
        """Say that the service runs; needs no token."""
        return Health()

    @app.get("/model", responses=documented())
    def model() -> Model:
        """Tell of the model and its thresholds."""
        told = recognizer.model
        known = {mode: told.scale(mode).thresholds for mode in (SINGLE, CROSS)}
        rates = {mode: {far_name(far): at for far, at in one.items()} for mode, one in known.items() if one}
        teacher = {key: value for key, value in told.teacher.items() if isinstance(value, str)}
        return Model(
            name=told.name, identity=told.identity, dim=told.dim, thresholds=rates, teacher=teacher, version=__version__
        )


def _compare(app: FastAPI, recognizer: Recognizer) -> None:
    @app.post("/embed", responses=documented(415, 422), openapi_extra=_PHOTO)
    async def embed(request: Request) -> Embedding:
        """Return the embedding of the face in a photo."""
        photo = await _photo(request)
        found = await run_in_threadpool(recognizer.embed, [photo])
        return Embedding(embedding=found[0].tolist(), model=recognizer.model.name)

    @app.post("/verify", responses=documented(415, 422))
    def verify(pair: Pair, far: Far = 1e-3) -> Verification:
        """Say whether two photos show one person."""
        return recognizer.verify(pair.first, pair.second, far=far)


def _search(app: FastAPI, recognizer: Recognizer, gallery: Gallery, keep_images: Path | None, same_space: bool) -> None:
    @app.post("/enroll", status_code=201, responses=documented(415, 422), openapi_extra=_PHOTO)
    async def enroll(request: Request, identity: Identity) -> Enrolled:
        """Enrol a photo; it is on the disk when this is answered. A photo enrolled before is no error."""
        photo = await _photo(request)
        new = await run_in_threadpool(recognizer.enroll_photo, photo, identity, gallery)
        if keep_images is not None:
            await run_in_threadpool(_keep, keep_images, photo)
        return Enrolled(identity=identity, new=new)

    @app.post("/identify", responses=documented(415, 422), openapi_extra=_PHOTO)
    async def identify(request: Request, k: Top = 5, fpir: Fpir = 0.01) -> Identification:
        """Say whom of the gallery a photo shows, or nobody."""
        photo = await _photo(request)

        def search() -> Identification:
            return recognizer.identify(photo, gallery, k=k, fpir=fpir, same_space=same_space)

        return await run_in_threadpool(search)

    @app.delete("/identities/{identity}", responses=documented(404, 422))
    def remove(identity: str) -> Removed:
        """Erase an identity and its embeddings from the gallery's file."""
        photos = gallery.remove(identity)
        if not photos:
            raise RefusalError(404, "expected the name of somebody enrolled, found nobody of that name")
        return Removed(identity=identity, photos=photos)


async def _photo(request: Request) -> bytes:
    """Return the body of a request that is a photo."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PHOTO_TYPES:
        raise RefusalError(415, f"expected a photo as the body, its Content-Type one of {', '.join(PHOTO_TYPES)}")
    return await request.body()


def _keep(folder: Path, photo: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / hashlib.sha256(photo).hexdigest(), photo)


Handler = Callable[[Request, Any], Awaitable[JSONResponse]]


def _answer(refused: RefusalError, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(refused.body(), refused.status, refused.headers() | (headers or {}))


async def _refused(_: Request, error: Any) -> JSONResponse:
    return _answer(error)


async def _unusable(_: Request, error: Any) -> JSONResponse:
    return _answer(RefusalError(422, str(error)))


async def _invalid(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _answer(RefusalError(422, f"expected {place} as /openapi.json says, found it otherwise: {first['msg']}"))


async def _http(_: Request, error: Any) -> JSONResponse:
    found = f"expected an address and a method of /openapi.json, found neither: {error.detail}"
    return _answer(RefusalError(error.status_code, found), error.headers)
