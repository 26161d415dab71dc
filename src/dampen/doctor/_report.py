"""Findings of the doctor, and the report that holds them."""

import textwrap
from dataclasses import dataclass
from typing import Literal

from dampen._language import language, part, shown

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")

_WIDTH, _NAMES = 100, 4  # characters of a printed line; names that are printed before the rest is counted


@dataclass(frozen=True)
class Symptom:
    """What one check saw in one place.

    Args:
        where: names of the parameters or modules, `the model` for the network itself, `the optimizer` and so on.
        severity: `serious` is a fault, `warning` most probably one, `note` worth a thought.
        message: what is wrong, and why that matters.
        remedy: how to fix it.
    """

    where: tuple[str, ...]
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Args:
        check: name of the check that found it; `ignore` takes it.
        where: names of the parameters or modules, separated by commas.
        severity: `serious` is a fault, `warning` most probably one, `note` worth a thought.
        message: what is wrong, and why that matters.
        source: paper or documentation that supports it.
        remedy: how to fix it.
    """

    check: str
    where: str
    severity: Severity
    message: str
    source: str
    remedy: str

    def __str__(self) -> str:
        names = self.where.split(", ")
        rest = shown(f" and {len(names) - _NAMES} more") if len(names) > _NAMES else ""
        lines = [f"{shown(self.severity)}: {self.check}: {', '.join(map(shown, names[:_NAMES]))}{rest}"]
        for text in (self.message, f"Fix: {self.remedy}", f"Source: {self.source}"):
            lines += _wrap(shown(text), "    ")
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The findings of `diagnose`; printing it shows them.

    Args:
        findings: the serious ones first.
        skipped: for each check that could not look, what it needs.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def serious(self) -> bool:
        """Whether one of the findings is serious."""
        return any(finding.severity == "serious" for finding in self.findings)

    def document(self) -> dict[str, list[dict[str, str]]]:
        """Return the findings as `dampen doctor --json` prints them."""
        names = ("check", "where", "severity", "message", "remedy")
        return {"findings": [{name: getattr(finding, name) for name in names} for finding in self.findings]}

    def __str__(self) -> str:
        counts = {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}
        parts = [str(finding) for finding in self.findings]
        if self.findings:
            parts.append(part(", ".join(f"{n} {_plural(severity, n)}" for severity, n in counts.items() if n)))
        else:
            parts.append(shown("nothing found"))
        for needed in dict.fromkeys(needed for _, needed in self.skipped):
            names = ", ".join(check for check, what in self.skipped if what == needed)
            parts.append("\n".join(_wrap(shown(f"not looked at without {needed}: {names}"))))
        return "\n\n".join(parts)


def _wrap(text: str, indent: str = "") -> list[str]:
    if language() != "en":  # words without spaces between them: the terminal breaks lines
        return [indent + text]
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _plural(severity: str, n: int) -> str:
    return severity if n == 1 or severity == "serious" else f"{severity}s"
