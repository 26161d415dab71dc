"""The Python examples of the documents run; a Chinese page has the code of its English one."""

import re
from pathlib import Path
from unittest import mock

import pytest

from dampen.engine.knobs import KNOBS
from dampen.study import _defaults

ROOT = Path(__file__).parents[1]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if not page.name.endswith(".zh.md")  # has the same
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]
FEW = _defaults.Sizes(8, 1, 3)  # where an example says nothing of sizes
CHINESE = [*ROOT.glob("*.zh.md"), *sorted((ROOT / "docs").rglob("*.zh.md"))]
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, tmp_path, monkeypatch, without_shape_checks):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_defaults, "usual_sizes", lambda n: FEW)
    with mock.patch.dict(KNOBS):  # one of them registers a knob
        exec(compile(code, "example", "exec"), {"__name__": "example"})


def code_of(page: Path) -> list[str]:
    """Return a page's blocks of code, fenced or indented; what a diagram is labelled with differs."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(?!mermaid)\w*\n.*?^```|(?<=\n\n)(?:^    [^\n]*\n)+", text, re.DOTALL | re.MULTILINE)


def figures_of(page: Path) -> list[str]:
    """Return the numbers in a page's tables and prose, in the order of their size."""
    text = page.read_text(encoding="utf-8")
    return sorted(re.findall(r"\d+(?:[.,]\d+)+", text))


def test_there_are_chinese_pages():
    assert len(CHINESE) > 7


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_has_the_code_the_figures_and_the_pictures_of_its_english_one(page):
    english = page.with_name(page.name.replace(".zh.md", ".md"))
    assert code_of(page) == code_of(english)
    assert figures_of(page) == figures_of(english)
    assert all(HAN.search(alt) for alt in re.findall(r"!\[([^\]]*)\]", page.read_text(encoding="utf-8")))
    sections = [len(re.findall(r"^#+ .*$", p.read_text(encoding="utf-8"), re.MULTILINE)) for p in (page, english)]
    assert sections[0] == sections[1]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_links_to_chinese_pages_where_there_are_any(page):
    linked = re.findall(r"\]\(([\w./-]+)\.md", page.read_text(encoding="utf-8").replace("[English](README.md)", ""))
    assert [t for t in linked if not t.endswith(".zh") and (page.parent / f"{t}.zh.md").exists()] == []


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_bold_type_ends_before_a_full_stop(page):
    leads = re.findall(r"^(?:- )?\*\*[^*\n]+\*\*.", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [lead for lead in leads if re.search(r"[。：，]\*\*\w", lead)] == []  # CommonMark shows its asterisks
