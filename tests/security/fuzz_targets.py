"""Every reader that is fuzzed, by name."""

from __future__ import annotations

from tests.security import fuzz_evaluation, fuzz_models, fuzz_sources
from tests.security.target import Target

TARGETS: dict[str, Target] = fuzz_sources.TARGETS | fuzz_evaluation.TARGETS | fuzz_models.TARGETS
