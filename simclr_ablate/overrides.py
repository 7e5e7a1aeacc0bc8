"""Hydra's overrides as text: `key=value` on a command line."""

import re
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/.~][\w/.:~-]*")
"""Text that Hydra reads unchanged without quotes."""


def override(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar, quoted only if necessary."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    return f"{key}={value if plain else literal(value)}"


def literal(value: Any) -> str:
    """`value` in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    # The grammar reads two backslashes as one only before a quote.
    text = re.sub(r"(\\*)(')", r"\1\1\\\2", str(value))
    return "'" + re.sub(r"(\\+)\Z", r"\1\1", text) + "'"
