"""What an audit says: findings, each with what was expected, what was found and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from proxylesskd.errors import UserError

Level = Literal["passed", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name, such as ``"label order"``.
        level: ``"failed"`` stops a distillation, ``"warning"`` is printed, ``"passed"`` is recorded.
        message: one line: what was expected, what was found, how to mend it.
        details: plain JSON values behind the message.
    """

    check: str
    level: Level
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """All findings about one classifier.

    Attributes:
        classifier: its fingerprint.
        findings: in the order of the checks.
    """

    classifier: str
    findings: Sequence[Finding]

    @property
    def failed(self) -> list[Finding]:
        """Findings that must stop a distillation."""
        return [finding for finding in self.findings if finding.level == "failed"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that a person should read."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``classifier.json`` and the audit page."""
        return {
            "classifier": self.classifier,
            "passed": not self.failed,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def require(self) -> None:
        """Stop if a check failed.

        Raises:
            UserError: with the message of every failed check.
        """
        if self.failed:
            raise UserError("the audit failed: " + "; ".join(finding.message for finding in self.failed))
