"""`mgzoo new`."""

from __future__ import annotations

from mgzoo.cli import output


def new(arguments) -> int:
    """`mgzoo new KIND NAME [--out FOLDER]`: the folder written goes to stdout, what to do next to stderr."""
    from mgzoo import scaffold

    folder = scaffold.new(arguments.kind, arguments.name, arguments.out)
    output.emit_json({"folder": str(folder)}) if arguments.json else print(folder)
    output.note(f"next: cd {folder} && pip install -e '.[test]' && pytest && mgzoo list {arguments.kind}")
    return 0
