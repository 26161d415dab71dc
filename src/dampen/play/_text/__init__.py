"""The page's texts in its languages."""

from dampen.play._text._catalogue import LANGUAGES, TEXTS, Text, language_of

__all__ = ["LANGUAGES", "TEXTS", "Text", "language_of"]
