"""`mgzoo new`."""

from __future__ import annotations

from mgzoo.cli import output
from mgzoo.cli.parser import parser


def new(arguments) -> int:
    """`mgzoo new KIND NAME [--out FOLDER]`: the folder written goes to stdout, what to do next to stderr; with `--into PLUGIN` the files that
    were written or changed."""
    if arguments.into:
        return _into(arguments)
    from mgzoo import scaffold

    folder = scaffold.new(arguments.kind, arguments.name, arguments.out)
    output.emit_json({"folder": str(folder)}) if arguments.json else print(folder)
    output.note(f"next: cd {folder} && pip install -e '.[test]' && pytest && mgzoo list {arguments.kind}")
    return 0


def _into(arguments) -> int:
    if arguments.out:
        parser("new").error("--into adds to a folder that exists: leave out --out")
    from mgzoo.scaffold.into import add_part

    component_id, files = add_part(arguments.kind, arguments.name, arguments.into)
    output.emit_json({"id": component_id, "files": [str(path) for path in files]}) if arguments.json else print(*files, sep="\n")
    output.note(f"next: cd {arguments.into} && pip install -e '.[test]' && pytest -k {arguments.name} && mgzoo show {component_id}")
    return 0
