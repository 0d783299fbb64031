"""How text that came from a file, a name or a command line is shown: escaped, bounded, and without any secret.

Everything the program prints goes through `shown`. Knows no terminal.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LINE: Final = 2000  # characters of a line
VALUE: Final = 120  # characters of one value within a line

_SECRET: Final = re.compile(r"AGE-SECRET-KEY-[0-9A-Z+/=-]*", re.IGNORECASE)
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # categories that steer a terminal, or show nothing


def shown(text: object, limit: int = LINE) -> str:
    """`text` on one line of at most about `limit` characters: what would steer a terminal is spelt out.

    Line ends, escape sequences, marks of writing direction and lone surrogates become `\\x1b`, `\\u202e` and the like;
    a secret key becomes a remark, whoever put it where it does not belong.
    """
    plain = _SECRET.sub("(a secret key, not shown)", str(text)[: 8 * limit])
    seen = "".join(
        _escaped(character) if unicodedata.category(character) in _UNSEEN else character for character in plain
    )
    return seen if len(seen) <= limit else f"{seen[:limit]}… (cut)"


def value(data: object) -> str:
    """One value within a line: in quotes where it holds spaces, which could else pretend to be more than a value."""
    text = shown(data, VALUE)
    return f'"{text}"' if not text or any(character.isspace() for character in text) else text


def holds_secret(text: str) -> bool:
    """Whether somebody put a secret key where text belongs."""
    return _SECRET.search(text) is not None


def hint_of(error: Exception) -> str:
    """What to do about an error: the last part of its message, which says so by custom."""
    text = str(error)
    for mark in ("; ", ": "):
        if mark in text:
            return text.rsplit(mark, 1)[1]
    return "see the command's --help"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
