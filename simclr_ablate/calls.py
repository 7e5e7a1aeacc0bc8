"""Pieces of other libraries as configs name them: `library:NAME`, or `library:NAME(argument=value, ...)`.

Such a name is text everywhere: in YAML, in grids, in ids and on the axes of figures. Nothing in it is evaluated: values
are numbers, text, true, false, null, lists and mappings of these, and pieces of the same library.
"""

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

LIBRARIES = ("torchvision", "kornia", "lightly", "timm")
"""The libraries whose pieces a config can name. Users' own modules need other names."""

_BEGINNING = re.compile(rf"(?:{'|'.join(LIBRARIES)}):[^\W\d]\w*")
_CONSTANTS = {"true": True, "false": False, "null": None}
"""As YAML spells them."""


@dataclass(frozen=True)
class Call:
    """A piece of a library.

    arguments: values by name; a piece among them is a Call too. library is that of the outermost piece.
    """

    library: str
    name: str
    arguments: dict[str, Any]

    def names(self) -> Iterator[str]:
        """The names of the piece and of all pieces among its arguments."""
        yield self.name
        for value in self.arguments.values():
            yield from _names_in(value)


def is_of_library(value: object) -> bool:
    """Whether `value` names a piece of one of LIBRARIES, be it well-formed or not."""
    return isinstance(value, str) and value.partition(":")[0] in LIBRARIES and ":" in value


def is_call(value: object) -> bool:
    """Whether `value` names a piece of a library and is well-formed."""
    try:
        return is_of_library(value) and bool(parse(str(value)))
    except ValueError:
        return False


def parse(text: str) -> Call:
    """The piece that `text` names. Raises ValueError, which says what is wrong."""
    library, _, expression = text.partition(":")
    return _call(library, _parsed(expression))


def spelled(text: str) -> str:
    """`text` in the one form that counts: arguments in alphabetical order, as Python spells them. Raises ValueError."""
    library, _, expression = text.partition(":")
    node = _parsed(expression)
    call = _call(library, node)
    plain = ast.unparse(_Plain().visit(node)) if call.arguments else call.name
    return f"{library}:{plain}"


def without_arguments(text: str) -> str:
    """`torchvision:GaussianBlur` for `torchvision:GaussianBlur(kernel_size=3)`; other text as it is."""
    return text.partition("(")[0] if is_of_library(text) else text


def with_version(text: str) -> str:
    """`timm:resnet18 of timm 1.0.26`: a piece with the version of its library, which is no part of its name."""
    library = text.partition(":")[0]
    return f"{text} of {library} {version(library)}"


def quoted(argument: str) -> str:
    """A `key=value` of the command line with quotes around each call in it, which Hydra's grammar asks for.

    What is in quotes already stays as it is.
    """
    key, equals, value = argument.partition("=")
    if not equals or not re.match(r"[\w+.@/]+\Z", key):
        return argument
    parts, place, quote = [], 0, ""
    while place < len(value):
        found = None if quote else _BEGINNING.match(value, place)
        if found is not None and value[found.end() : found.end() + 1] == "(":
            end = _closing(value, found.end())
            parts.append(_in_quotes(value[place:end]))
            place = end
            continue
        if value[place] in "'\"" and quote in ("", value[place]):
            quote = "" if quote else value[place]
        parts.append(value[place])
        place += 1
    return key + equals + "".join(parts)


def unquoted(argument: str) -> str:
    """A `key=value` without the quotes that `quoted` puts around calls; as it is, if others would be lost."""
    plain = re.sub(rf"(['\"])({_BEGINNING.pattern}\([^'\"]*\))\1", r"\2", argument)
    return plain if quoted(plain) == argument else argument


def _in_quotes(call: str) -> str:
    return '"' + call.replace('"', '\\"') + '"' if "'" in call else f"'{call}'"


def _closing(value: str, opening: int) -> int:
    """The place behind the bracket that closes the one at `opening`; the end if none does."""
    depth, quote = 0, ""
    for place in range(opening, len(value)):
        character = value[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return place + 1
    return len(value)


def _parsed(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = "; quote it inside a list" if expression.count("(") > expression.count(")") else ""
        raise ValueError(f"{why}{hint}") from None


def _call(library: str, node: ast.expr) -> Call:
    """Raises ValueError."""
    if isinstance(node, ast.Name):
        return Call(library, node.id, {})
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("it must be a name, or a name with arguments in brackets")
    unnamed = next((ast.unparse(each) for each in node.args), None)
    if unnamed is not None or any(each.arg is None for each in node.keywords):
        raise ValueError(f"arguments must be named, as in {node.func.id}(NAME={unnamed or '...'})")
    arguments = {str(each.arg): _value(library, each.value) for each in node.keywords}
    if len(arguments) < len(node.keywords):
        raise ValueError("an argument is given twice")
    return Call(library, node.func.id, arguments)


def _value(library: str, node: ast.expr) -> Any:
    """Raises ValueError."""
    if isinstance(node, ast.Call):
        return _call(library, node)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List):
        return [_value(library, each) for each in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(library, each) for each in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(library, key) for key in node.keys if key is not None]
        if all(isinstance(key, str | int) for key in keys):
            values = (_value(library, value) for value in node.values)
            return dict(zip(keys, values, strict=True))
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = ...
    if isinstance(value, int | str | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(
        f"{ast.unparse(node)} must be a number, text in quotes, true, false, null, a list, or NAME(...) of {library}"
    )


class _Plain(ast.NodeTransformer):
    """Arguments in alphabetical order, and constants as Python spells them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        arguments = sorted(node.keywords, key=lambda each: str(each.arg))
        keywords = [ast.keyword(each.arg, self.visit(each.value)) for each in arguments]
        return ast.Call(node.func, [], keywords)


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, Call):
        yield from value.names()
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names_in(each)
