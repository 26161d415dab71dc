"""All texts, by key and language, and which language a reader gets."""

from collections.abc import Mapping
from typing import Any

from dampen._language import shown, speaking
from dampen.play._text._chooser import CHOOSER
from dampen.play._text._data import DATA
from dampen.play._text._decay import DECAY
from dampen.play._text._images import IMAGES
from dampen.play._text._lesson import LESSON
from dampen.play._text._shell import SHELL
from dampen.play._text._tune import TUNE

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""What each language is called in itself."""
_TAGS = {"en": "en", "zh": "zh-Hans"}

TEXTS: Mapping[str, Mapping[str, str]] = {**SHELL, **LESSON, **DECAY, **IMAGES, **CHOOSER, **DATA, **TUNE}
"""By key: the text in each language, with named places as in `str.format`."""


class Text:
    """The texts in one language.

    Args:
        language: one of `LANGUAGES`.

    Example:
        >>> Text("en")("lesson.start"), Text("zh")("lesson.start")
        ('Start', '开始')
    """

    def __init__(self, language: str):
        self.language = language

    @property
    def tag(self) -> str:
        """What HTML calls the language."""
        return _TAGS[self.language]

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text with its places filled."""
        text = TEXTS[key][self.language]
        return text.format(**values) if values else text

    def line(self, line: str) -> str:
        """Return the twin of an English line of the library: a sentence of a verdict, a note, an error.

        Example:
            >>> Text("zh").line("--seed must be 0 or larger, got -1")
            '--seed 必须为 0 或更大，实际为 -1'
        """
        with speaking(self.language):
            return shown(line)


def language_of(asked: str | None, accepted: str) -> str:
    """Return the language that an address asks for, or else the first one that the browser accepts and there is.

    Example:
        >>> language_of("zh", ""), language_of(None, "fr;q=0.9, zh-CN, en"), language_of("xx", "")
        ('zh', 'zh', 'en')
    """
    if asked in LANGUAGES:
        return str(asked)
    for part in accepted.split(","):
        language = part.split(";")[0].strip().lower().split("-")[0]
        if language in LANGUAGES:
            return language
    return "en"
