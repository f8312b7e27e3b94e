"""Where the files that are not Python live, and the templates among them."""
from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

_PACKAGE = Path(__file__).resolve().parent


def data(kind: str) -> Path:
    """The folder "templates", "runtime_c" or "boards": inside an installed wheel, else at the top of the checkout."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(data("templates")), undefined=jinja2.StrictUndefined,
                             trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    env.filters["hex"] = "0x{:08X}".format
    return env


def template(name: str) -> jinja2.Template:
    """A template of the folder "templates"; an undefined name in it is an error."""
    return _environment().get_template(name)
