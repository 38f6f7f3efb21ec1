"""`mgzoo list`."""

from __future__ import annotations

import re
from pathlib import Path

from mgzoo.cli import output
from mgzoo.cli.plugins import commands
from mgzoo.spec import KINDS


def list_(arguments) -> int:
    """`mgzoo list [KIND]`."""
    from mgzoo.discovery import discover

    registry, wanted = discover(), arguments.kind
    verbs, left_out = commands(registry)
    sections: dict[str, list[dict]] = {}
    for kind in KINDS:
        if wanted in (None, kind):
            sections[kind] = [
                {
                    "id": component.id,
                    "kind": component.kind,
                    "summary": component.summary,
                    "license": component.license,
                    "provider": str(registry.providers[component.namespace]),
                }
                for component in registry.kind(kind)
            ]
    if wanted in (None, "recipe"):
        from mgzoo.recipe.shipped import recipe_names

        sections["recipe"] = [{"id": name, "summary": _description(path), "file": str(path)} for name, path in sorted(recipe_names().items())]
    if wanted in (None, "verb"):
        sections["verb"] = [{"id": name, "summary": help, "run": target} for name, help, target in verbs]
    if wanted == "plugin":
        sections["plugin"] = [{"id": name, "summary": str(provider)} for name, provider in sorted(registry.providers.items())]
    set_aside = [str(one) for one in (*registry.disabled, *left_out)] if wanted in (None, "plugin") else []
    if arguments.json:
        output.emit_json({**sections, "set_aside": set_aside})
    elif arguments.quiet:
        print("\n".join(row["id"] for rows in sections.values() for row in rows))
    else:
        print(_listing(sections, set_aside))
    return 0


def _description(path: Path) -> str:
    """The recipe's one-line description, read as text: a listing need not parse YAML."""
    found = re.search(r"^description:[ \t]*(\S.*)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1].strip("\"' ") if found else ""


def _listing(sections: dict[str, list[dict]], set_aside: list[str]) -> str:
    blocks = [f"{kind}\n{output.table((row['id'], row['summary']) for row in rows)}" for kind, rows in sections.items() if rows]
    if set_aside:
        blocks.append("disabled plugins\n" + "\n".join(f"  {line}" for line in set_aside))
    return "\n\n".join(blocks) or "no plugin is installed: pip install one, e.g. mgzoo-video"
