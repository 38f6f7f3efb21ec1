"""`mgzoo push`, `pull` and `verify`."""

from __future__ import annotations

import sys
from pathlib import Path

from mgzoo.cli import output
from mgzoo.spec import MgzooError


def push(arguments) -> int:
    """`mgzoo push RUN|FOLDER HUB/NAME[@tag]`: what was pushed, at its commit, goes to stdout."""
    from mgzoo.hub.references import parse_target
    from mgzoo.share.push import push

    target = parse_target(arguments.ref)
    commit = push(arguments.folder, arguments.ref, sign=arguments.sign, report=output.note if sys.stderr.isatty() else None)
    name = f"{target.base}@{commit}"
    if target.is_ambiguous:
        output.note(f"note: {target.hub} is a local folder and is used as a folder hub; write hf://{target.base} for the network hub")
    output.emit_json({"ref": name, "commit": commit}) if arguments.json else print(name)
    return 0


def pull(arguments) -> int:
    """`mgzoo pull REF`: the artifact's folder goes to stdout."""
    from mgzoo.share.pull import pull

    report = output.note if sys.stderr.isatty() else None
    folder = pull(arguments.ref, licenses=arguments.licenses, require_signature=arguments.require_signature, report=report)
    output.emit_json({"ref": arguments.ref, "folder": str(folder)}) if arguments.json else print(folder)
    return 0


def verify(arguments) -> int:
    """`mgzoo verify PATH`: an artifact, a run, a hub's folder or a generated file against what it should be."""
    from mgzoo.share.verify import verify

    if not Path(arguments.path).is_file():
        return output.print_verdict(arguments, arguments.path, verify(arguments.path, require_signature=arguments.require_signature))
    if arguments.require_signature:
        raise MgzooError("generated files carry no signature", remedy="verify the model that generated the file", origin=arguments.path)
    from mgzoo.generation.record import check_generated_file

    made, found = check_generated_file(arguments.path)
    facts = {"model": made.model, "commit": made.revision or made.commit, "task": made.task or None,
             "plugins": {"mgzoo": made.mgzoo, **made.plugins}, "request": made.request}  # fmt: skip
    if arguments.json:
        output.emit_json({"ok": not found, "made": facts, "problems": [problem.to_dict() for problem in found]})
        return 1 if found else 0
    task = f"{made.task['id']} of {made.task['distribution']} {made.task['version']}" if made.task else None
    shown = {**facts, "task": task, "plugins": ", ".join(f"{name} {version}" for name, version in facts["plugins"].items()), "request": None}
    print(output.table(((key, value) for key, value in ({**shown, **made.request}).items() if value is not None), indent=0))
    return output.print_verdict(arguments, arguments.path, found)
