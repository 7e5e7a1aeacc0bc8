"""HTML from the templates in `web/`, which escape whatever text they are given."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

WEB = Path(__file__).parent / "web"
_TEMPLATES = Environment(
    loader=FileSystemLoader(WEB),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> Markup:
    """The template of that name with `values`, of which only `Markup` is taken for HTML."""
    return Markup(_TEMPLATES.get_template(template).render(values))


def verbatim(name: str) -> Markup:
    """A file of `web/`, as it is."""
    return Markup((WEB / name).read_text(encoding="utf-8"))
