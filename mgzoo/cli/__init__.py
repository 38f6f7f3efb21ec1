"""The command line: data on stdout, everything else on stderr.

Exit codes: 0 success, 1 problems found, 2 wrong usage, 130 interrupted, 143 terminated. Only what the chosen verb needs is
imported, so `mgzoo --help` costs no more than argparse.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import os
import sys
from collections.abc import Collection, Sequence

from mgzoo.cli import output
from mgzoo.cli.parser import COMMANDS, Usage, help_text, parser, unknown_command
from mgzoo.spec import MgzooError


def main() -> None:
    """The `mgzoo` script."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where the caller has closed it
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no "…" is no reason to fail
    _exit(run(sys.argv[1:]))


def _exit(code: int) -> None:
    """End the process. Threads that plugins started while they were loaded are named and not waited for."""
    guard = sys.modules.get("mgzoo.import_guard")
    left = guard.left_threads() if guard else []
    if not left:
        sys.exit(code)
    for thread, owner in left:
        output.note(f"note: the plugin {owner} left the thread {output.printable(thread.name)} running; it is not waited for")
    atexit._run_exitfuncs()  # os._exit runs none
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line in this process and return its exit code; nothing but a bug or `--debug` raises."""
    argv = list(argv)
    if argv and argv[0].startswith("--local_rank="):  # where the deepspeed launcher puts it: before the verb, not after it
        argv = [*argv[1:2], argv[0], *argv[2:]]
    options = argv[: argv.index("--")] if "--" in argv else argv
    debug, as_json = "--debug" in options, "--json" in options
    try:
        try:
            code = _dispatch([word for word in argv if word != "--debug"] if debug else argv)
        except Usage as error:
            code = error.code
            if error.text:
                output.note(error.text)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has gone (`mgzoo list | head -1`): what is still buffered must not be reported at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if debug:
            raise
        output.note("interrupted")
        return 130
    except MgzooError as error:
        if debug:
            raise
        output.error(error, as_json)
        return 1
    except OSError as error:
        if debug:
            raise
        output.error(MgzooError(error.strerror or str(error), origin=str(error.filename or ""), remedy=output.remedy(error)), as_json)
        return 1
    except ValueError as error:
        # What parts and their configs refuse, e.g. `--steps` beyond what a sampler takes.
        if debug:
            raise
        output.error(MgzooError(str(error), remedy="`--debug` shows the traceback"), as_json)
        return 1


def _dispatch(argv: list[str]) -> int:
    if argv[:1] in (["-h"], ["--help"]) or not argv:
        stream = sys.stdout if argv else sys.stderr
        print(help_text(), file=stream)
        return 0 if argv else 2
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"mgzoo {version('mgzoo')}")
        return 0
    name, rest = argv[0], argv[1:]
    if name in COMMANDS:
        return _load(COMMANDS[name].run)(_parse(name, rest))
    from mgzoo.cli.plugins import commands
    from mgzoo.discovery import discover

    usable, left_out = commands(discover())
    for command, _, target in usable:
        if command == name:
            return _load(target)(rest)
    for one in left_out:
        output.note(str(one))
    raise Usage(unknown_command(name, [command for command, _, _ in usable]))


def _parse(name: str, words: Sequence[str]) -> argparse.Namespace:
    """A verb's arguments from the words after it."""
    made, more = parser(name), []
    if COMMANDS[name].open:
        words, more = _apart(words, made._option_string_actions)
    arguments = made.parse_intermixed_args(words)
    arguments.more = more
    return arguments


def _apart(words: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """(words that the parser reads, ``--option`` and the value after it where the parser does not know the option)."""
    own, more, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*own, word, *rest], more
        if not word.startswith("--") or word.partition("=")[0] in known:
            own.append(word)
            continue
        more.append(word)
        if "=" not in word and rest and not rest[0].startswith("--"):
            more.append(rest.pop(0))
    return own, more


def _load(target: str):
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
