"""Texts of what all pages have in common."""

from collections.abc import Mapping

SHELL: Mapping[str, Mapping[str, str]] = {
    "shell.pages": {"en": "Pages", "zh": "页面"},
    "shell.dark": {"en": "Dark or light", "zh": "深色或浅色"},
}
