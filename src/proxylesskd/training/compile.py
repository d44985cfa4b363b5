"""Compile the student for the length of a training: fewer trips to memory between its convolutions."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from proxylesskd.errors import UserError, nearest

CHOICES = ("auto", "on", "off")
TURN_OFF = "train.compile=off trains without compiling"


def wants_compile(choice: str, device: torch.device) -> bool:
    """Return whether a student on this device is compiled.

    Args:
        choice: ``"on"``, ``"off"``, or ``"auto"``: on a CUDA device, where Triton can be imported. On CPUs
            ``"auto"`` means off: there the kernels of oneDNN that eager mode calls are the faster ones
            (``benchmarks/steps.py backbones`` measures it).
        device: where the student is trained.

    Raises:
        UserError: an unknown choice.
    """
    if choice not in CHOICES:
        raise UserError(f"expected compile among {', '.join(CHOICES)}, found '{choice}'{nearest(choice, CHOICES)}")
    capable = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    return choice == "on" or (choice == "auto" and capable)


@contextmanager
def compiled(
    network: nn.Module,
    enabled: bool,
    say: Callable[[str], None] = lambda _: None,
    backend: str = "inductor",
) -> Iterator[None]:
    """Compile a network in place while the context lasts; its training passes then run compiled.

    Modules, parameters and the names in ``state_dict`` stay as they are, and so do copies and files. In evaluation
    mode the network runs as ever: checks come in other batch sizes, and each would be compiled anew. Compiling
    happens in the first step, may take minutes, and gives the same kernels in every process.

    Args:
        network: the student.
        enabled: see :func:`wants_compile`; otherwise nothing happens.
        say: prints that the first step will take longer.
        backend: of ``torch.compile``.

    Raises:
        UserError: compiling failed, in the step that needs it; the message says how to turn it off.
    """
    if not enabled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # the base of everything that compiling raises

    say(f"compiling the student in the first step, which may take minutes; {TURN_OFF}")
    _in_training_alone(network, backend)
    try:
        yield
    except TorchDynamoException as error:
        raise UserError(f"expected to compile the student, found {_reason(error)}; {TURN_OFF}") from error
    finally:
        network._compiled_call_impl = None


def _in_training_alone(network: nn.Module, backend: str) -> None:
    """Do as ``network.compile()`` does, except in evaluation mode, and for a bare ``nn.Sequential`` too.

    The compiler passes over PyTorch's own functions unless one of ours calls them: ``network.compile()`` of a
    sequence of PyTorch's layers compiles nothing, and says nothing.
    """

    def plain(*args: Any, **kwargs: Any) -> Any:
        return network._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    fast = torch.compile(plain, backend=backend)

    def call(*args: Any, **kwargs: Any) -> Any:
        return (fast if network.training else plain)(*args, **kwargs)

    network._compiled_call_impl = call


def _reason(error: Exception) -> str:
    """Return the first line of what went wrong, of the innermost error where there is one."""
    inner = getattr(error, "inner_exception", error)
    lines = str(inner).strip().splitlines()
    return f"{type(inner).__name__}: {lines[0][:200]}" if lines else type(inner).__name__
