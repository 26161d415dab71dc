"""The verdict: what a study found, with its sentences."""

from dataclasses import dataclass, field

from dampen._html import lines
from dampen._language import shown
from dampen.study import _verdict_text
from dampen.study._findings import Findings


@dataclass(frozen=True, kw_only=True)
class Verdict(Findings):
    """What a study found; printing it gives sentences. See `Findings` for what it holds.

    Args:
        words: its sentences, of a study that was read from its folder.
    """

    words: tuple[str, ...] | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Verdict: {self.sentences()[0]}>"

    def _repr_html_(self) -> str:
        lead, *rest = map(shown, self.sentences())
        return lines(lead, rest)

    def __str__(self) -> str:
        return "\n".join(map(shown, self.sentences()))

    def sentences(self) -> list[str]:
        """Return the verdict in English words, the recommendation first; printing it shows the reader's language."""
        return _verdict_text.sentences(self) if self.words is None else list(self.words)
