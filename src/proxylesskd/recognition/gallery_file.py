"""The one file of a gallery: an SQLite database that nothing that happens to a process can leave half-written.

Every change is one transaction that is on the disk before it counts as done (a rollback journal and
``synchronous=EXTRA``), so that a process may be killed at any time and another may write at the same time. A file that
somebody else made is data: its tables must be exactly these, for views, triggers and defaults are programs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from proxylesskd.errors import UserError

APPLICATION = 0x504B4447  # "PKDG", in the header of the file
FORMAT = 1
WAIT = 60.0  # seconds for another process's transaction, which takes milliseconds
TABLES = {
    "about": "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "photo": (
        "CREATE TABLE photo (id INTEGER PRIMARY KEY, identity TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, "
        "embedding BLOB NOT NULL, UNIQUE (identity, digest))"
    ),
}
CHANGES = "changes"  # counts transactions that changed photos


def create(path: Path, about: dict[str, str]) -> None:
    """Make the tables and say what the gallery is, unless another process has.

    Raises:
        UserError: the file cannot be made, or holds something else.
    """
    with transaction(path, must_exist=False) as database:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _check(database, path)
            return
        for statement in TABLES.values():
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {FORMAT}")
        database.executemany("INSERT INTO about VALUES (?, ?)", [*about.items(), (CHANGES, "0")])


@contextmanager
def transaction(path: Path, *, must_exist: bool = True) -> Iterator[sqlite3.Connection]:
    """Open the file and change it: all of it or nothing.

    Raises:
        UserError: no gallery stands there, or it cannot be written.
    """
    with _opened(path, "rw" if must_exist else "rwc") as database:
        database.execute("BEGIN IMMEDIATE")  # whoever is to write waits at once, and never in a circle
        try:
            if must_exist:
                _check(database, path)
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as it is at one time.

    Raises:
        UserError: no gallery stands there.
    """
    with _opened(path, "rw") as database:  # to read after a crash, the journal is rolled back first
        database.execute("BEGIN")
        _check(database, path)
        yield database
        database.execute("COMMIT")


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    if mode == "rw" and not path.is_file():
        raise UserError(f"expected a gallery at '{path}', found none; make one with: proxylesskd enroll DIR --gallery")
    try:
        where = f"{path.resolve().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(where, uri=True, timeout=WAIT, isolation_level=None)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA secure_delete = ON")  # who is removed is gone from the file
            database.execute("PRAGMA synchronous = EXTRA")
            yield database
    except sqlite3.Error as error:
        raise UserError(f"expected a gallery that can be used at '{path}', found: {error}") from error


def _check(database: sqlite3.Connection, path: Path) -> None:
    number, version = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if number != APPLICATION:
        raise UserError(f"expected a gallery at '{path}', found another file")
    if version != FORMAT:
        raise UserError(f"expected a gallery of format {FORMAT} at '{path}', found format {version}; enroll anew")
    made = database.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 9").fetchall()
    if sorted(made) != sorted(("table", name, sql) for name, sql in TABLES.items()):
        raise UserError(f"expected the tables of a gallery in '{path}', found others; it was not made by proxylesskd")


def about(database: sqlite3.Connection) -> dict[str, str]:
    """Return what the gallery says of itself."""
    return {str(key): str(value) for key, value in database.execute("SELECT key, value FROM about LIMIT 100")}


def changes(database: sqlite3.Connection) -> str:
    """Return a word that is another one after every change."""
    row = database.execute("SELECT value FROM about WHERE key = ?", (CHANGES,)).fetchone()
    return "" if row is None else str(row[0])


def count_change(database: sqlite3.Connection) -> None:
    """Note that photos have changed."""
    database.execute("UPDATE about SET value = CAST(value AS INTEGER) + 1 WHERE key = ?", (CHANGES,))


def insert(database: sqlite3.Connection, rows: Sequence[tuple[str, str, str, bytes]]) -> int:
    """Insert (identity, name, digest, embedding); a photo that its identity has already is passed over.

    Returns:
        How many are new.
    """
    before = database.total_changes
    database.executemany("INSERT OR IGNORE INTO photo (identity, name, digest, embedding) VALUES (?, ?, ?, ?)", rows)
    new = database.total_changes - before
    if new:
        count_change(database)
    return new
