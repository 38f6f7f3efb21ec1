"""The verbs: arguments, options and help. Standard library only."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mgzoo.cli import argument_types
from mgzoo.errors import suggest
from mgzoo.spec import KINDS

SHELLS = ("bash", "zsh", "fish")


class Usage(Exception):
    """Wrong usage: printed as it stands, exit code 2 unless `code` says otherwise."""

    def __init__(self, text: str, code: int = 2):
        super().__init__(text)
        self.text, self.code = text, code


@dataclass(frozen=True, kw_only=True)
class Command:
    """One verb of the command line.

    help: one line. run: ``module:function`` that takes the parsed arguments and returns an exit code.
    arguments: adds the verb's words and options to its parser. examples: command lines that work. open: it also takes options
    that depend on a model; they are left in the arguments' ``more``.
    """

    help: str
    run: str
    arguments: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    open: bool = False


class _Parser(argparse.ArgumentParser):
    """Says what was meant when an option is misspelled, and leaves exiting to `run`."""

    def error(self, message: str):
        lines = [f"{self.prog}: {message}"]
        if "arguments are required" in message:
            lines.append("    -> " + " ".join(self.format_usage().split()))
        known = [option for action in self._actions for option in action.option_strings]
        for word in re.findall(r"(?<!\S)--?[\w-]+", message.partition("unrecognized arguments:")[2]):
            close = suggest(word, known, 1)
            lines.append(f"    -> did you mean {close[0]}?" if close else f"    -> options are {', '.join(sorted(known))}")
        lines.append(f"    -> `{self.prog} --help` shows the usage and examples")
        raise Usage("\n".join(lines))

    def exit(self, status: int = 0, message: str | None = None):
        raise Usage(message or "", code=status)


def parser(name: str) -> argparse.ArgumentParser:
    """The parser of one verb."""
    verb = COMMANDS[name]
    made = _Parser(
        prog=f"mgzoo {name}",
        description=verb.help[0].upper() + verb.help[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in verb.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    verb.arguments(made)
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    made.add_argument("-h", "--help", action="help", help="show this text")
    return made


def help_text() -> str:
    """What `mgzoo --help` prints."""
    lines = [
        "usage: mgzoo VERB …",
        "",
        "Compose, check, train and share models for video, images and sound from interchangeable parts.",
        "",
        "verbs:",
        *(f"  {name:<10} {verb.help}" for name, verb in COMMANDS.items()),
        "",
        "`mgzoo VERB --help` shows the options and examples of a verb; `mgzoo list verb` lists the verbs of plugins.",
        "--version prints the version; --debug shows the traceback of an error, with any verb.",
        "",
        "RECIPE is a YAML file or the name of a shipped recipe (`mgzoo list recipe`); a.b=value overrides a recipe key.",
        "MODEL is a folder, registry/NAME, or org/name@revision on a hub.",
        "Exit codes: 0 success, 1 problems found, 2 wrong usage, 130 interrupted, 143 terminated.",
    ]
    return "\n".join(lines)


def unknown_command(word: str, more: Sequence[str] = ()) -> str:
    """Message for an unknown verb."""
    known = [*COMMANDS, *more]
    close = suggest(word.lower(), known, 1)
    hint = f"did you mean `mgzoo {close[0]}`?" if close else f"verbs are {', '.join(known)}"
    return f"mgzoo: unknown verb {word!r}\n    -> {hint}"


def _json(parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _recipe(parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")


def _overrides(parser) -> None:
    parser.add_argument("overrides", metavar="a.b=value", nargs="*", default=[], help="override a recipe key")


def _composed(parser) -> None:
    _recipe(parser)
    _overrides(parser)


def _list(parser) -> None:
    parser.add_argument("kind", metavar="KIND", nargs="?", type=argument_types.listed_kind, help=f"one of {', '.join(argument_types.LISTED)}")
    parser.add_argument("-q", "--quiet", action="store_true", help="print names only, one per line")
    _json(parser)


def _show(parser) -> None:
    parser.add_argument(
        "thing", metavar="ID|ARTIFACT|RUN|FILE",
        help="a component id, a model, a run folder, a recipe, or a generated file",
    )
    _json(parser)


def _check(parser) -> None:
    _composed(parser)
    parser.add_argument("--meta", action="store_true", help="also build on the meta device (imports torch)")
    _json(parser)


def _explain(parser) -> None:
    _recipe(parser)
    parser.add_argument("key", metavar="KEY", help="dotted key, e.g. train.lr or parts.backbone.config.depth")
    _overrides(parser)
    _json(parser)


def _plan(parser) -> None:
    _composed(parser)
    parser.add_argument("--gpus", metavar="N", type=argument_types.count, help="number of GPUs, one rank each (default: one rank on this machine, on its GPU or CPU)")
    _json(parser)


def _lock(parser) -> None:
    _composed(parser)
    parser.add_argument("--out", metavar="FILE", type=argument_types.path, help="output file (default: NAME.lock.json next to the recipe, or in the current folder)")
    _json(parser)


def _cp(parser) -> None:
    parser.add_argument("name", metavar="RECIPE", help="the name of a shipped recipe")
    parser.add_argument("dest", metavar="FILE", nargs="?", type=argument_types.path, help="output file (default: NAME.yaml in the current folder)")


def _train(parser) -> None:
    _composed(parser)
    parser.add_argument("--out", metavar="RUN", type=argument_types.path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue from the latest intact checkpoint of the run")
    parser.add_argument("--accept-changes", action="store_true", help="with --resume: continue even if data or weights have changed")
    parser.add_argument("--force", action="store_true", help="train even if the recipe needs more memory than this machine has")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher passes it; LOCAL_RANK says the same


def _generate(parser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a folder, a run, registry/NAME, or org/name@revision")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="text prompt")
    parser.add_argument("--from", metavar="FILE", type=argument_types.path, dest="source", help="regenerate a file from the settings embedded in it")
    parser.add_argument("--task", metavar="ID", help="run another task: component id or plugin name (default: the model's own task)")
    parser.add_argument("--seed", metavar="N", type=argument_types.seed, help="random seed, 0 to 2^64 - 1, or random: a new one, printed and recorded in the file (default 0)")
    parser.add_argument("--frames", metavar="N", type=argument_types.count, help="frames; 1 is an image (default: the model's)")
    parser.add_argument("--size", metavar="WxH", type=argument_types.size, help="width x height in pixels (default: the model's)")
    parser.add_argument("--fps", metavar="N", type=argument_types.positive_number, help="frames per second (default: the model's)")
    parser.add_argument("--steps", metavar="N", type=argument_types.count, help="sampling steps (default: the recipe's)")
    parser.add_argument("--guidance", metavar="G", type=argument_types.number, help="guidance scale (default: the recipe's)")
    parser.add_argument("--out", metavar="FILE", type=argument_types.path, help=".mp4, .png, .gif, .webp or .wav (default: named after the prompt)")
    parser.epilog = "Task options are passed as --NAME VALUE, for example --source clip.mp4; `mgzoo show MODEL` lists them.\n\n" + parser.epilog


def _push(parser) -> None:
    parser.add_argument("folder", metavar="RUN|FOLDER", help="folder of a run or an artifact")
    parser.add_argument("ref", metavar="HUB/NAME[@tag]", help="target: registry/NAME, HUB_FOLDER/NAME, or org/name")
    parser.add_argument("--sign", metavar="KEY", type=argument_types.path, help="sign with this private key, a PEM file (needs model-signing)")
    _json(parser)


def _pull(parser) -> None:
    parser.add_argument("ref", metavar="REF", help="registry/NAME[@tag], HUB_FOLDER/NAME[@tag], or org/name@revision")
    parser.add_argument("--licenses", metavar="A,B", type=argument_types.names, default=(), help="reject artifacts under any other licence (default: allow all)")
    _require_signature(parser)
    _json(parser)


def _verify(parser) -> None:
    parser.add_argument("path", metavar="PATH", help="an artifact, a run, a folder hub, or a generated file")
    _require_signature(parser)
    _json(parser)


def _require_signature(parser) -> None:
    text = "reject artifacts without a valid signature for this public key, a PEM file (needs model-signing)"
    parser.add_argument("--require-signature", metavar="KEY", type=argument_types.path, help=text)


def _new(parser) -> None:
    parser.add_argument("kind", metavar="KIND", type=argument_types.part_kind, help=f"one of {', '.join(KINDS)}")
    parser.add_argument("name", metavar="NAME", help="plugin name and prefix of its component ids; one lower-case word; with --into, the name of the component")
    parser.add_argument("--out", metavar="FOLDER", type=argument_types.path, help="output folder (default: mgzoo-NAME in the current folder)")
    parser.add_argument("--into", metavar="PLUGIN", type=argument_types.path, help="add the component to the plugin in this folder (a plugin written by `mgzoo new`)")
    _json(parser)


def _completion(parser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}; in ~/.bashrc, for example: source <(mgzoo completion bash)")
    parser.add_argument("--line", metavar="TEXT", help="print completion candidates for TEXT (used by the scripts)")


COMMANDS = {
    "list": Command(
        help="list components, recipes and disabled plugins",
        run="mgzoo.cli.listing:list_",
        arguments=_list,
        examples=("mgzoo list", "mgzoo list backbone", "mgzoo list recipe --quiet"),
    ),
    "show": Command(
        help="show a component's options, or the parts and provenance of a model, run or file",
        run="mgzoo.cli.show:show",
        arguments=_show,
        examples=("mgzoo show backbones.llama3.v1", "mgzoo show registry/emoji-t2v", "mgzoo show a-rabbit.mp4 --json"),
    ),
    "check": Command(
        help="check a recipe and list all problems",
        run="mgzoo.cli.recipes:check",
        arguments=_check,
        examples=("mgzoo check tiny/emoji_t2v", "mgzoo check my.yaml train.lr=3e-4", "mgzoo check my.yaml --meta"),
    ),
    "explain": Command(
        help="show the origin of a recipe value and the values it overrides",
        run="mgzoo.cli.recipes:explain",
        arguments=_explain,
        examples=("mgzoo explain tiny/emoji_t2v train.lr", "mgzoo explain my.yaml zero.stage zero.stage=3"),
    ),
    "plan": Command(
        help="estimate parameters, FLOPs, memory per rank, downloads and disk space",
        run="mgzoo.cli.recipes:plan",
        arguments=_plan,
        examples=("mgzoo plan tiny/emoji_t2v", "mgzoo plan movie_gen/t2v_30b --gpus 6144"),
    ),
    "lock": Command(
        help="pin a recipe's plugins, commits and digests in a lock file",
        run="mgzoo.cli.recipes:lock",
        arguments=_lock,
        examples=("mgzoo lock my.yaml", "mgzoo lock tiny/emoji_t2v --out emoji.lock.json"),
    ),
    "cp": Command(
        help="copy a shipped recipe to edit it",
        run="mgzoo.cli.recipes:cp",
        arguments=_cp,
        examples=("mgzoo cp tiny/emoji_t2v my.yaml",),
    ),
    "train": Command(
        help="train a recipe",
        run="mgzoo.cli.train:train",
        arguments=_train,
        examples=(
            "mgzoo train tiny/emoji_t2v --out runs/first",
            "mgzoo train my.yaml train.batch=16 --out runs/second",
            "mgzoo train my.yaml --out runs/second --resume",
            "torchrun --nproc-per-node 2 -m mgzoo train my.yaml zero.stage=2 --out runs/two",
        ),
    ),
    "generate": Command(
        help="generate a video, an image or a sound",
        run="mgzoo.cli.generate:generate",
        arguments=_generate,
        open=True,
        examples=(
            'mgzoo generate registry/emoji-t2v "a rabbit hopping" --seed 1',
            'mgzoo generate runs/first "a red heart" --frames 1 --out heart.png',
            "mgzoo generate --from heart.png --out again.png",
            'mgzoo generate runs/edit "make it blue" --source clip.mp4 --out blue.mp4',
        ),
    ),
    "push": Command(
        help="push a model to a hub",
        run="mgzoo.cli.share:push",
        arguments=_push,
        examples=("mgzoo push runs/first registry/first@v1", "mgzoo push runs/first org/name"),
    ),
    "pull": Command(
        help="download a model from a hub and print its local path",
        run="mgzoo.cli.share:pull",
        arguments=_pull,
        examples=("mgzoo pull registry/emoji-t2v", "mgzoo pull org/name@v1"),
    ),
    "verify": Command(
        help="check the integrity of a model, a run or a generated file",
        run="mgzoo.cli.share:verify",
        arguments=_verify,
        examples=("mgzoo verify registry/emoji-t2v", "mgzoo verify runs/first", "mgzoo verify a-rabbit.mp4"),
    ),
    "new": Command(
        help="create a plugin with one working component as a template",
        run="mgzoo.cli.new:new",
        arguments=_new,
        examples=("mgzoo new sampler acme", "mgzoo new backbone acme --out plugins/acme", "mgzoo new metric flicker --into plugins/acme"),
    ),
    "completion": Command(
        help="print the shell completion script",
        run="mgzoo.cli.completion:completion",
        arguments=_completion,
        examples=("mgzoo completion bash", "mgzoo completion zsh", "mgzoo completion fish"),
    ),
    "doctor": Command(
        help="report versions, hardware, disk, plugins and environment",
        run="mgzoo.cli.doctor:doctor",
        arguments=_json,
        examples=("mgzoo doctor", "mgzoo doctor --json"),
    ),
}
