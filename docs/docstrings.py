"""Docstrings, as this project writes them, to reStructuredText.

What is recognised, block by block (blocks are parted by blank lines):

- `name: text` at the beginning of a line, if the name is a parameter or attribute of the object or one of Raises,
  Requires, Guarantees, Depart: an item of its own, up to the next
- Markdown tables
- indented blocks: as they are
- everything else: a paragraph, with `code` and **stress**
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from secureagg.dp.dp_events import PrivacyEvent

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup", "to_restructured_text"]

_SECTIONS = ("Raises", "Requires", "Guarantees", "Depart")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
_EVENTS = " | ".join(kind.__name__ for kind in get_args(PrivacyEvent))
_INLINE = re.compile(
    r"``?(?P<code>[^`]+)``?|\*\*(?P<strong>[^*]+)\*\*|(?<!\S)\*(?P<emphasis>\w+)\*(?!\w)|(?P<special>[\\*_|])"
)
_ARRAY = re.compile(
    r"~?(?:numpy\.)?ndarray\[~?tuple\[~?(?:typing\.)?Any, \.\.\.\], "
    r"~?(?:numpy\.)?dtype\[(?P<dtype>[^\[\]]+(?:\[[^\]]*\])?)\]\]"
)  # what numpy makes of NDArray[dtype]


def to_restructured_text(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the docstring's lines in reStructuredText; `names` are those whose descriptions become items."""
    written: list[str] = []
    for block in _blocks(lines):
        if block[0].startswith("| "):
            written += _table(block)
        elif block[0].startswith("    "):
            written += ["::", "", *block]
        elif block[0].startswith("- "):
            written += _inline("\n".join(block)).splitlines()
        else:
            for item in _items(block, names):
                written += [*item.splitlines(), ""]
        written.append("")
    return written


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []


def _items(block: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield paragraphs and items."""
    known = "|".join(map(re.escape, names)) or "(?!)"
    name = rf"(?:(?:{known})(?:, (?:{known}))*|{'|'.join(_SECTIONS)})"
    # An item begins a line, or follows the end of a sentence or of another item.
    for part in re.split(rf"(?:^|(?<=[.;]) |\n)(?={name}: )", "\n".join(line.strip() for line in block)):
        found = re.match(rf"({name}): ", part)
        if found:
            label = f"**{found[1]}:**" if found[1] in _SECTIONS else f"``{found[1]}``:"
            yield f"{label} {_inline(part[found.end() :])}"
        elif part:
            yield _inline(part)


def _table(block: Sequence[str]) -> list[str]:
    rule = len(block) > 1 and not block[1].strip("|-: ")
    rows = [
        line.removeprefix("| ").removesuffix(" |").split(" | ") for line in block if line.strip("|-: ")
    ]  # |x| has no spaces inside
    written = [".. list-table::", *(["   :header-rows: 1"] if rule else []), ""]
    for row in rows:
        for index, cell in enumerate(row):
            written.append(f"   {'* -' if index == 0 else '  -'} {_inline(cell.strip())}")
    return written


def _inline(text: str) -> str:
    """Return `code` as literals, and names as links where they lead anywhere; everything else as it is."""

    def replace(found: re.Match[str]) -> str:
        if found["code"] is not None:
            code = " ".join(found["code"].split())
            return f":py:obj:`{code}`" if _IDENTIFIER.fullmatch(code) else f"``{code}``"
        if found["strong"] is not None:
            return f"**{found['strong']}**"
        if found["emphasis"] is not None:
            return f"*{found['emphasis']}*"
        return "\\" + found["special"]

    return _INLINE.sub(replace, text)


def _names(thing: Any) -> list[str]:
    """Return the parameters and fields of what is documented."""
    names = [field.name for field in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    if callable(thing):
        try:
            names += inspect.signature(thing).parameters
        except ValueError:  # a built-in without a signature
            return names
    if inspect.isclass(thing):
        names += [name for name, _ in inspect.getmembers(thing) if not name.startswith("_")]
    return sorted(set(names), key=len, reverse=True)


def _process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_restructured_text(lines, _names(thing))


def _process_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    if getattr(thing, "_is_protocol", False):  # typing.is_protocol, from Python 3.13 on
        return "", None
    return _short(signature), _short(result)


def _short(text: str | None) -> str | None:
    """Return array and event types by their aliases, and defaults that are made anew in a way that parses."""
    if text is None:
        return None
    text = _ARRAY.sub(r"NDArray[\g<dtype>]", text).replace("<factory>", "...")
    return text.replace(_EVENTS, "PrivacyEvent").replace("PrivacyEvent | Sequence[PrivacyEvent]", "Events")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _process_signature)
    return {"parallel_read_safe": True}
