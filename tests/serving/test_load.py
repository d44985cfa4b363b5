"""The service as a process: eight clients, a worker that is killed, and a server that dies while it enrols."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxylesskd.recognition.gallery import Gallery
from tests.serving.conftest import photo

SECONDS = float(os.environ.get("PROXYLESSKD_LOAD_SECONDS", "60"))
PHOTO = {"content-type": "image/png"}


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(model: Path, gallery: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the command and wait until it answers; kill all of it at the end."""
    port = _port()
    options = ["--aligned", "--port", str(port), "--workers", str(workers), "--rate", "100000", "--burst", "100000"]
    command = [sys.executable, "-m", "proxylesskd", "serve", "-m", str(model), "-g", str(gallery), *options]
    process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address)
        yield process, address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _await(address: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("expected the service to answer within a minute")


def _workers(parent: int) -> list[int]:
    """Return the processes below one that import the service."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


class _Client(threading.Thread):
    """Enrols, searches and embeds until told to stop; counts what it is answered, and when nobody answers."""

    def __init__(self, address: str, number: int, stop: threading.Event) -> None:
        super().__init__()
        self.address, self.number, self.stop = address, number, stop
        self.seconds: list[float] = []
        self.statuses: dict[int, int] = {}
        self.broken = 0
        self.acknowledged: list[str] = []

    def run(self) -> None:
        turn = 0
        with httpx.Client(base_url=self.address, timeout=30) as client:
            while not self.stop.is_set():
                self._ask(client, turn)
                turn += 1

    def _ask(self, client: httpx.Client, turn: int) -> None:
        name = f"{self.number}-{turn}"
        where = ("/embed", "/identify?fpir=1", f"/enroll?identity={name}", "/embed")[turn % 4]
        body = photo(1000 * self.number + turn, turn % 7)
        started = time.monotonic()
        try:
            answer = client.post(where, content=body, headers=PHOTO)
        except httpx.TransportError:
            self.broken += 1
            return
        self.seconds.append(time.monotonic() - started)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if answer.status_code == 201:
            self.acknowledged.append(name)


def _told(clients: list[_Client], seconds: float) -> dict[str, Any]:
    times = sorted(one for client in clients for one in client.seconds)
    statuses: dict[int, int] = {}
    for client in clients:
        for status, count in client.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    cuts = statistics.quantiles(times, n=100)
    broken = sum(client.broken for client in clients)
    told = {"answered": len(times), "a second": round(len(times) / seconds, 1), "statuses": statuses, "broken": broken}
    return told | {"p50 ms": round(1000 * cuts[49], 1), "p99 ms": round(1000 * cuts[98], 1)}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers by /proc")
def test_eight_clients_and_a_killed_worker(model: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    gallery = tmp_path / "gallery.db"
    with served(model, gallery, workers=2) as (process, address):
        clients = [_Client(address, number, stop) for number in range(8)]
        for client in clients:
            client.start()
        time.sleep(SECONDS / 2)
        before = _workers(process.pid)
        os.kill(before[0], signal.SIGKILL)
        time.sleep(SECONDS / 2)
        stop.set()
        for client in clients:
            client.join(60)
        after = _workers(process.pid)
        assert httpx.get(f"{address}/model").status_code == 200
    told = _told(clients, SECONDS)
    print(told)
    assert len(before) == len(after) == 2
    assert before[0] not in after  # and another one stands in its place
    assert told["statuses"].keys() <= {200, 201, 503}
    assert told["broken"] <= 8  # what the killed worker had in hand
    assert told["answered"] > 8 * SECONDS / 2
    enrolled = [name for client in clients for name in client.acknowledged]
    assert len(enrolled) > SECONDS / 2
    assert set(enrolled) <= set(Gallery(gallery).counts())


@pytest.mark.slow
def test_what_was_acknowledged_outlives_kill_9(model: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery.db"
    acknowledged: list[str] = []
    for life in range(3):
        with served(model, gallery, workers=1) as (process, address):
            killer = threading.Timer(1.5, os.killpg, (process.pid, signal.SIGKILL))
            killer.start()
            with suppress(httpx.TransportError), httpx.Client(base_url=address) as client:
                for turn in range(100_000):
                    name = f"{life}-{turn}"
                    body = photo(100 * life + turn)
                    if client.post(f"/enroll?identity={name}", content=body, headers=PHOTO).status_code == 201:
                        acknowledged.append(name)
            killer.join()
        counts = Gallery(gallery).counts()
        assert set(acknowledged) <= set(counts)
        assert len(counts) <= len(acknowledged) + life + 1  # at most the one in hand beside them
    assert len(acknowledged) > 10
