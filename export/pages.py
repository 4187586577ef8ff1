"""The reports' templates: one environment for all pages, everything in them escaped, nothing undefined let through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

__all__ = ["render"]


def render(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Render a template of this folder with filters of its own."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**values)
