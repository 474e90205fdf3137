"""Texts of a manifest in which variables stand: `{target.host}`, `{connection.site}`, `{binding.project}`.

What a variable may hold is decided by its type, so that no value leads out of the place it is written in.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

type Values = Mapping[str, str | tuple[str, ...]]

_REFERENCE: Final = re.compile(r"\{(target|connection|binding)\.([a-z][A-Za-z0-9]{0,39})\}")


class TemplateError(Exception):
    """A text with a brace that begins or ends no reference."""


class Template(NamedTuple):
    """Literal texts and, between them, the names of variables: always one literal more, which may be empty."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def render(self, values: Values) -> list[str]:
        """Return the text with the values in it; a list makes as many texts as it has items."""
        texts = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            value = values[name]
            items = (value,) if isinstance(value, str) else value
            texts = [f"{text}{item}{literal}" for text in texts for item in items]
        return texts

    def one(self, values: Values) -> str:
        """Return the one text of a template in which no list stands."""
        [text] = self.render(values)
        return text


def parse_template(text: str) -> Template:
    """Read a text; raises TemplateError."""
    pieces = _REFERENCE.split(text)
    literals = tuple(pieces[::3])
    if any("{" in literal or "}" in literal for literal in literals):
        raise TemplateError("a brace begins a variable: {target.NAME}, {connection.NAME} or {binding.NAME}")
    names = tuple(f"{source}.{name}" for source, name in zip(pieces[1::3], pieces[2::3], strict=True))
    return Template(literals, names)
