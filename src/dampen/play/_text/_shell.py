"""Texts of what all pages have in common."""

from collections.abc import Mapping

SHELL: Mapping[str, Mapping[str, str]] = {
    "shell.pages": {"en": "Pages", "zh": "页面"},
    "shell.full": {
        "en": "{most} trainings are running already: close a tab of this page, then load this one again.",
        "zh": "已有 {most} 个训练在运行：请关闭本页面的一个标签页，再重新载入此页。",
    },
    "shell.dark": {"en": "Dark or light", "zh": "深色或浅色"},
}
