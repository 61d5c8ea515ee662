"""What is put into a page as it is: figures as SVG, data as JSON, a script with its hash."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections import Counter
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from results.figures.style import FAINT, GRID, INK, PAPER, REST, SOFT, STYLE

# The page's colours change with light and dark; what carries data keeps its own.
PAGE_COLOURS = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    SOFT: "var(--soft)",
    # The script sets the first of the two where a metric is brought forward.
    REST: "var(--own, var(--soft))",
    GRID: "var(--rule)",
    PAPER: "var(--paper)",
}
_REFERENCES = re.compile(r'(\bid="|href="#|url\(#)')
_IDS = re.compile(r'\bid="([^"]*)"')
_PATHS = re.compile(r'(?<= d=")[^"]*')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def svg(figure: Figure, name: str, label: str) -> Markup:
    """A figure as an `svg` element that takes the colours of the page around it.

    Parameters
    ----------
    name : is put before every id, so that several figures can be in one page.
    label : what a screen reader says of it.
    """
    content = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _PATHS.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), text)
    text = _REFERENCES.sub(rf"\g<1>{name}-", text)
    seen: Counter[str] = Counter()
    text = _IDS.sub(lambda found: _distinct(found[1], seen), text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(f": {colour}", f": {variable}")
    width = round(96 * figure.get_figwidth())
    start = f'<svg role="img" aria-label="{escape(label)}" style="--natural: {width}px"'
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"{start} \1>", text)
    # Every part of it was made by matplotlib, which escapes what it writes.
    return Markup(text)


def _distinct(name: str, seen: Counter[str]) -> str:
    """An id; panels of one figure have artists of the same name, which nothing refers to."""
    seen[name] += 1
    return f'id="{name}"' if seen[name] == 1 else f'id="{name}-{seen[name]}"'


def data(content: Any) -> Markup:
    """JSON for a `script` element of type application/json: nothing in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def script_hash(script: str) -> str:
    """What a content security policy calls this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
