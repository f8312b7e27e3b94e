"""Templates hold no logic: names, members, for, if and a few filters. Everything else is decided in Python."""

from __future__ import annotations

import jinja2
import pytest
from jinja2 import nodes

from edgec import paths

FOLDER = paths.data("templates")
TEMPLATES = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.j2"))
ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Getattr,
    nodes.For,
    nodes.If,
    nodes.Filter,
)
FILTERS = {"upper", "hex", "join", "e"}


def faults(text: str) -> list[str]:
    """What in a template is not allowed, with its line."""
    found = []

    def walk(node: nodes.Node, in_filter: bool = False) -> None:
        ok = isinstance(node, ALLOWED) or in_filter and isinstance(node, nodes.Const)
        ok = ok and not (isinstance(node, nodes.Filter) and node.name not in FILTERS)
        ok = ok and not (isinstance(node, nodes.For) and (node.test or node.recursive))
        if not ok:
            found.append(f"line {node.lineno}: {getattr(node, 'name', type(node).__name__)}")
        for child in node.iter_child_nodes():
            walk(child, isinstance(node, nodes.Filter))

    walk(jinja2.Environment().parse(text))
    return found


def test_there_are_templates():
    assert {"package/model.c.j2", "package/model.h.j2", "package/weights.c.j2"} <= set(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_holds_no_logic(name):
    assert not faults((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "{% set x = 1 %}",
        "{% macro f() %}{% endmacro %}",
        "{% import 'a' as b %}",
        "{% include 'a' %}",
        "{{ a + 1 }}",
        "{{ f() }}",
        "{{ a.f() }}",
        "{{ a[0] }}",
        "{{ a ~ b }}",
        "{% if a == 1 %}{% endif %}",
        "{% if a and b %}{% endif %}",
        "{{ a | length }}",
        "{% for a in b if a.c %}{% endfor %}",
        "{{ 1 }}",
        "{% block a %}{% endblock %}",
    ],
)
def test_the_lint_finds(text):
    assert faults(text)


def test_the_lint_allows():
    assert not faults(
        "{% for a in b %}{{ a.c | upper }}{% else %}{{ d | join(', ') }}{% endfor %}{% if x %}y{% else %}z{% endif %}"
    )
