"""Adds a part of another kind to a plugin that `mgzoo new` wrote: new files, and one declaration in its plugin.py. Never imports torch."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mgzoo import storage
from mgzoo.scaffold import TEMPLATES, filled, require_kind, require_word
from mgzoo.spec import MgzooError


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin's source. namespace: of its ids. package: its Python package. source: the package's folder. module: the file that declares."""

    folder: Path
    namespace: str
    distribution: str
    package: str
    source: Path
    module: Path


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part to add, or a template's own. stem: its module. target, config: its classes."""

    stem: str
    target: str
    config: str


def add_part(kind: str, name: str, folder: str | Path) -> tuple[str, list[Path]]:
    """Add a working part of this kind, called NAMESPACE.NAME.v1, to the plugin in ``folder``: (its id, the files written or changed).

    No file is written over; plugin.py gets the declaration, README.md a row of its table. Raises `MgzooError` where the plugin is not
    written as `mgzoo new` writes one, and for a name that is taken; then nothing is changed.
    """
    require_kind(kind)
    require_word(name, "part")
    plugin = read_plugin(Path(folder))
    component_id = f"{plugin.namespace}.{name}.v1"
    template = TEMPLATES / kind / "mgzoo_acme"
    old = _declared((template / "plugin.py").read_text(encoding="utf-8"))
    camel = "".join(map(str.capitalize, name.split("_")))
    part = Part(stem=name, target=camel, config=f"{camel}Config")
    code = {source: (template / f"{source}.py").read_text(encoding="utf-8") for source in ("configs", old.stem)}
    if camel in {token for text in code.values() for token in _names(text)} - {old.target}:
        raise MgzooError(f"the class {camel} would take the name of something that the template imports", remedy="choose another name")
    new = {plugin.source / f"{place}.py": _code(code[source], kind, plugin, old, part) for source, place in (("configs", f"{name}_configs"), (old.stem, name))}
    recipe = TEMPLATES / kind / "mgzoo_acme" / "recipes" / "acme" / "tiny.yaml"
    if recipe.is_file():
        text = re.sub(rf"\bacme\.{old.stem}\.", f"acme.{name}.", recipe.read_text(encoding="utf-8")).replace("acme/tiny", f"acme/{name}")
        new[plugin.source / "recipes" / plugin.namespace / f"{name}.yaml"] = _filled(text, kind, plugin)
    new[plugin.folder / "tests" / f"test_{name}.py"] = _test(kind, plugin, component_id, recipe.is_file())
    for path in new:
        if path.exists() or path.is_symlink():
            raise MgzooError(f"{path} exists", remedy="choose another name, or remove it first")
    summary = _component(kind, old)["summary"]
    changed = {plugin.module: _with_component(plugin, kind, part, component_id, summary, recipe.is_file())}
    readme = plugin.folder / "README.md"
    if row := _with_row(readme, plugin, f"| `{component_id}` | {kind} | {summary} |"):
        changed[readme] = row
    _write(new, changed)
    return component_id, [*new, *changed]


def read_plugin(folder: Path) -> Plugin:
    """The plugin in a folder, as its pyproject.toml declares it."""
    project = folder / "pyproject.toml"
    if not project.is_file():
        raise MgzooError(f"{folder} is no plugin's folder: it has no pyproject.toml", remedy="name the folder that `mgzoo new` wrote, or write one: mgzoo new KIND NAME")
    try:
        said = tomllib.loads(project.read_text(encoding="utf-8"))
        points = said["project"]["entry-points"]["mgzoo"]
        (namespace, place), distribution = next(iter(points.items())), said["project"]["name"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MgzooError(f"{project} cannot be read: {error}", remedy="repair it") from None
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise MgzooError(f"{project} declares no plugin: it has no [project.entry-points.mgzoo]", remedy="name a plugin's folder") from None
    if len(points) > 1:
        raise MgzooError(f"{project} declares {len(points)} plugins: {', '.join(points)}", remedy="add the part by hand: `--into` adds to a plugin that stands alone")
    package, _, module = str(place).rpartition(".")
    for root in (folder, folder / "src"):
        source = root.joinpath(*package.split("."))
        if package and (source / f"{module}.py").is_file():
            return Plugin(folder=folder, namespace=namespace, distribution=distribution, package=package, source=source, module=source / f"{module}.py")
    raise MgzooError(f"{project} names the module {place}, which is not in {folder}", remedy="repair the entry point, or name another folder")


def _component(kind: str, old: Part) -> dict[str, str]:
    """The fields of the template's own declaration."""
    tree = ast.parse((TEMPLATES / kind / "mgzoo_acme" / "plugin.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Component")
    return {word.arg: ast.literal_eval(word.value) for word in call.keywords}


def _declared(text: str) -> Part:
    """The one part that a template's plugin.py declares."""
    config, target = (re.search(rf'{role}="mgzoo_acme\.(\w+):(\w+)"', text) for role in ("config", "target"))
    return Part(stem=target[1], target=target[2], config=config[2])


def _filled(text: str, kind: str, plugin: Plugin) -> str:
    """A template's text for this plugin, whatever its package and distribution are called."""
    words = {"mgzoo_acme": plugin.package, "mgzoo-acme": plugin.distribution}
    return "".join(words.get(piece) or filled(piece, kind, plugin.namespace) for piece in re.split("(mgzoo[_-]acme)", text))


def _names(text: str) -> list[str]:
    return [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.NAME]


def _code(text: str, kind: str, plugin: Plugin, old: Part, part: Part) -> str:
    """A template's module with the part's own names: identifiers are renamed, sentences are not."""
    renamed = {old.target: part.target, old.config: part.config}
    lines = text.replace("mgzoo_acme.configs", f"mgzoo_acme.{part.stem}_configs").splitlines(keepends=True)
    text = "".join(lines)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.NAME and token.string in renamed]
    for token in reversed(tokens):
        (row, begin), (_, end) = token.start, token.end
        lines[row - 1] = lines[row - 1][:begin] + renamed[token.string] + lines[row - 1][end:]
    return _filled("".join(lines), kind, plugin)


def _test(kind: str, plugin: Plugin, component_id: str, recipe: bool) -> str:
    """A test file for what the laws do not know of the part."""
    name = component_id.split(".")[1]
    text = f'"""{component_id}. The laws of its kind are run by `conformance("{plugin.namespace}")`; what only this part must do is tested here."""\n\n'
    if not recipe:
        text += "from mgzoo.discovery import discover\n"
    else:
        text += "import mgzoo\nfrom mgzoo.discovery import discover\n"
    text += f'\n\ndef test_{name}_is_declared():\n    assert discover().get("{component_id}").kind == "{kind}"\n'
    if recipe:
        text += f'\n\ndef test_its_recipe_is_valid():\n    assert "{component_id}" in mgzoo.compose("{plugin.namespace}/{name}").to_yaml()\n'
    return text


def _with_component(plugin: Plugin, kind: str, part: Part, component_id: str, summary: str, recipe: bool) -> str:
    """The text of plugin.py with one more declaration at the end of the list that `mgzoo_components` returns."""
    text = plugin.module.read_text(encoding="utf-8")
    fields = {"id": component_id, "kind": kind, "config": f"{plugin.package}.{part.stem}_configs:{part.config}", "target": f"{plugin.package}.{part.stem}:{part.target}",
              "summary": summary, "license": "mit"}  # fmt: skip
    declaration = "Component(" + ", ".join(f'{name}="{value}"' for name, value in fields.items()) + ")"
    by_hand = f"add it by hand to {plugin.module}: {declaration}"
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise MgzooError(f"{plugin.module} is not valid Python: {error}", remedy="repair it first") from None
    if any(isinstance(node, ast.Constant) and node.value == component_id for node in ast.walk(tree)):
        raise MgzooError(f"{plugin.module} declares {component_id} already", remedy="choose another name")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    last = functions["mgzoo_components"].body[-1] if "mgzoo_components" in functions else None
    imported = {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.List)) or "Component" not in imported:
        raise MgzooError(f"{plugin.module} has no mgzoo_components that returns a list of Component(...)", remedy=by_hand)
    block = "        Component(\n" + "".join(f'            {name}="{value}",\n' for name, value in fields.items()) + "        ),\n"
    text = _inserted(text, last.value, block)
    if recipe and "mgzoo_recipes" not in functions:
        text = text.rstrip("\n") + '\n\n\n@hookimpl\ndef mgzoo_recipes():\n    return Path(__file__).parent / "recipes"\n'
        if "Path" not in imported:
            text = text.replace("from mgzoo.hooks import", "from pathlib import Path\n\nfrom mgzoo.hooks import", 1)
        if "hookimpl" not in imported or "from pathlib import Path" not in text:
            raise MgzooError(f"{plugin.module} has no mgzoo_recipes, and imports hookimpl from elsewhere than mgzoo.hooks", remedy=by_hand)
    ast.parse(text)
    return text


def _inserted(text: str, shown: ast.List, block: str) -> str:
    """A text with a block before the bracket that closes a list, on lines of its own."""
    lines = text.splitlines(keepends=True)
    row, column = shown.end_lineno - 1, len(lines[shown.end_lineno - 1].encode()[: shown.end_col_offset].decode()) - 1
    before, after = "".join(lines[:row]) + lines[row][:column], lines[row][column:] + "".join(lines[row + 1 :])
    if shown.elts:  # a comma after the last element, before any comment that follows it
        last = shown.elts[-1]
        end = len("".join(lines[: last.end_lineno - 1])) + len(lines[last.end_lineno - 1].encode()[: last.end_col_offset].decode())
        if not re.match(r"(\s|#[^\n]*\n)*,", before[end:]):
            before = before[:end] + "," + before[end:]
    return before.rstrip(" ").rstrip("\n") + "\n" + block + "    " + after


def _with_row(readme: Path, plugin: Plugin, row: str) -> str | None:
    """README.md with one more row in the table of its ids; None where it has no such table."""
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True) if readme.is_file() else []
    rows = [i for i, line in enumerate(lines) if line.startswith(f"| `{plugin.namespace}.")]
    return "".join([*lines[: rows[-1] + 1], row + "\n", *lines[rows[-1] + 1 :]]) if rows else None


def _write(new: dict[Path, str], changed: dict[Path, str]) -> None:
    """Write the new files, then the changed ones; what was written is taken back where that fails."""
    before, written = {path: path.read_text(encoding="utf-8") for path in changed}, []
    try:
        for path, text in new.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        for path, text in changed.items():
            storage.atomic_write(path, text)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for path, text in before.items():
            if path.read_text(encoding="utf-8") != text:
                storage.atomic_write(path, text)
        raise


