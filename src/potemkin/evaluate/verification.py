"""What a second look at a bundle found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verification:
    """What a second look at a bundle found."""

    claimed: int
    """Adversarials in the bundle."""
    confirmed: int
    refused: dict[int | str, str] = field(default_factory=dict)
    """Example id -> why its line does not stand: its adversarial does not count, or the model says otherwise."""
    notes: list[str] = field(default_factory=list)
    """What differs from the recorded run: another model, box or data, another count of examples that were right."""
    warnings: list[str] = field(default_factory=list)
    """What the record itself warns of: that its adversarials are confirmed does not mend it."""
    examples: int = 0
    """Examples that were asked about again, without an attack."""
    agreed: int = 0
    """Those among them whose line says of the clean input what the model says."""
    held: int = 0
    """Examples that held. That no search broke them stands on the record's word: only a new search can check it."""

    @property
    def passed(self) -> bool:
        """Whether every claim and every clean prediction was confirmed on the recorded model and data."""
        return not self.refused and not self.notes

    def reasons(self) -> list[str]:
        """One line per reason of refusal, the most frequent first, with its count and up to three examples."""
        names: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            names.setdefault(why, []).append(str(name))
        told = []
        for why, ids in sorted(names.items(), key=lambda item: -len(item[1])):
            examples = f"example{'s' if len(ids) > 1 else ''} {', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}"
            told.append(f"{len(ids)} refused: {why} ({examples})")
        return told

    def counts(self) -> list[str]:
        """What was confirmed, and what no second look can confirm."""
        lines = [f"{self.confirmed} of {self.claimed} claimed adversarials confirmed: in the set, in the box, goal met"]
        if self.examples:
            lines.append(f"{self.agreed} of {self.examples} clean predictions confirmed")
        if self.held:
            lines.append(f"{self.held} held: not checked, that takes the search again")
        return lines

    def __str__(self) -> str:
        lines = self.counts()
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines + self.reasons())
