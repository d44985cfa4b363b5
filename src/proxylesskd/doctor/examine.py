"""The examination: packages, devices, speed and verbs in one record, and its text."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from proxylesskd.doctor.packages import CORE, Package, asked_for, installed
from proxylesskd.doctor.speed import decoded_per_second, gigaflops, read_decoding, read_multiplying, torch_gigaflops
from proxylesskd.doctor.verbs import NEEDS, mend, missing
from proxylesskd.errors import UserError
from proxylesskd.machine import GIB, available_memory, cores, total_memory

NOT_SHOWN = ("all", "dev")  # sums of other extras


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        about: versions of this package and of Python, the platform, cores, threads and memory.
        packages: what the installation (under ``""``) and every extra ask for.
        devices: by PyTorch, and onnxruntime's providers.
        speed: rates, each with its reading in words.
    """

    about: Mapping[str, Any]
    packages: Mapping[str, tuple[Package, ...]]
    devices: Mapping[str, list[str]]
    speed: Mapping[str, tuple[float, str, str]]  # value, unit, reading

    @property
    def healthy(self) -> bool:
        """Say whether the installation has what it needs itself, and nothing optional that is too old."""
        outdated = [p for packages in self.packages.values() for p in packages if p.found is not None and not p.fits]
        return not missing((), self.packages) and not outdated

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "healthy": self.healthy,
            **self.about,
            "packages": {
                extra or "core": {p.name: {"least": p.least, "found": p.found, "fits": p.fits} for p in packages}
                for extra, packages in self.packages.items()
            },
            "devices": dict(self.devices),
            "speed": {
                name: {"value": value, "unit": unit, "reading": reading}
                for name, (value, unit, reading) in self.speed.items()
            },
            "verbs": {verb: {"needs": needs, "mend": mend(needs, self.packages)} for verb, needs in NEEDS.items()},
        }

    def __str__(self) -> str:
        return "\n".join(_text(self))


def examine(*, speed: bool = True) -> Examination:
    """Examine this installation; two or three seconds with the speeds.

    Args:
        speed: whether to measure them.

    Raises:
        UserError: the sources are run without having been installed.
    """
    try:
        packages = asked_for(metadata.requires("proxylesskd") or [])
    except metadata.PackageNotFoundError as error:
        raise UserError("expected an installed proxylesskd, found its sources alone: pip install .") from error
    shown = {extra: found for extra, found in packages.items() if extra not in NOT_SHOWN}
    return Examination(_about(), shown, _devices(), _speeds() if speed else {})


def _about() -> dict[str, Any]:
    from proxylesskd import __version__

    return {
        "proxylesskd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cores(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_gib": round(total_memory() / GIB, 1),
        "memory_free_gib": round(available_memory() / GIB, 1),
    }


def _devices() -> dict[str, list[str]]:
    found = {"torch": _torch_devices() if installed("torch") else []}
    if installed("onnxruntime"):
        import onnxruntime

        found["onnxruntime"] = list(onnxruntime.get_available_providers())
    return found


def _threads() -> int:
    """Return how many threads numpy's product takes."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else cores()


def _torch_devices() -> list[str]:
    import torch

    cards = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def _speeds() -> dict[str, tuple[float, str, str]]:
    images, numpy_rate = decoded_per_second(), gigaflops()
    found = {
        "decode": (images, "images/s on one core", read_decoding(images)),
        "matmul numpy": (numpy_rate, "GFLOP/s", read_multiplying(numpy_rate, _threads())),
    }
    if installed("torch"):
        import torch

        on_cpu = torch_gigaflops("cpu")
        found["matmul torch cpu"] = (on_cpu, "GFLOP/s", read_multiplying(on_cpu, torch.get_num_threads()))
        if torch.cuda.is_available():
            on_card = torch_gigaflops("cuda")
            found["matmul torch cuda"] = (on_card, "GFLOP/s", f"{on_card / on_cpu:.0f} times the CPU")
    return found


def _text(found: Examination) -> Iterator[str]:
    about = found.about
    yield f"proxylesskd {about['proxylesskd']}, Python {about['python']}, {about['platform']}"
    threads = f", OMP_NUM_THREADS={about['omp_num_threads']}" if about["omp_num_threads"] else ""
    yield f"{about['cores']} cores{threads}, {about['memory_gib']} GiB memory ({about['memory_free_gib']} free)"
    yield from (
        f"{runtime} runs on {', '.join(devices) or 'nothing: not installed'}"
        for runtime, devices in found.devices.items()
    )
    yield from (f"{name}: {value:,.0f} {unit}; {reading}" for name, (value, unit, reading) in found.speed.items())
    yield "packages:"
    yield from (f"  {_line(extra, packages)}" for extra, packages in found.packages.items())
    yield "verbs:"
    yield f"  ready: {', '.join(verb for verb, needs in NEEDS.items() if mend(needs, found.packages) is None)}"
    for command, verbs in _by_command(found.packages).items():
        yield f"  {', '.join(verbs)}: {command}"
    yield "healthy" if found.healthy else "not healthy: a package of the installation is missing, or one is too old"


def _line(extra: str, packages: tuple[Package, ...]) -> str:
    told = [f"{p.name} {p.found or 'missing'}" + ("" if p.found is None or p.fits else " (too old)") for p in packages]
    return f"{extra or 'core'}: {', '.join(told)}"


def _by_command(packages: Mapping[str, tuple[Package, ...]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for verb, needs in NEEDS.items():
        command = mend(needs, packages)
        if command is not None:
            found.setdefault(command, []).append(verb)
    return found


__all__ = ["CORE", "Examination", "examine"]
