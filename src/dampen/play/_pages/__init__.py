"""The pages, in the order of their links.

To add one, write `_pages/_decay.py` that ends in `PAGE = Page("/decay", "decay.title", build, fields)`, where `fields`
names those of its address, and name it in `PAGES`; write `_text/_decay.py` with its texts in every language, and name
that in `_text/_catalogue.py`. `build(visit)` makes the page with NiceGUI's elements, inside what `_shell` puts around
every page; `visit.text("decay.title")` is a text in the reader's language, `visit.query` has the fields of the address,
and `visit.keep({...})` writes them. What is trained runs in a process of its own: a class with the methods of
`_live.Training` and a function that makes it, for `_live.Live`; `_drawn.drawn` ties that to the tab: frame by frame,
and ended with it. `_lesson.py` shows all of it.
"""

from dampen.play._pages import _data, _decay, _images, _lesson, _tune

PAGES = (_lesson.PAGE, _data.PAGE, _decay.PAGE, _images.PAGE, _tune.PAGE)
