"""The templates of the pages, with automatic escaping."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Load a template of this package by its file name."""
    environment = Environment(
        loader=PackageLoader("noisescale.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)
