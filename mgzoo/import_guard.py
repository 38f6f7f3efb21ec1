"""Run plugin code without heavy imports (torch etc.), and turn failures into one line."""

from __future__ import annotations

import builtins
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.machinery import ModuleSpec
from typing import Any

from mgzoo.spec import CONTROL_CHARACTERS, MgzooError, one_line

HEAVY = ("torch", "numpy", "deepspeed", "transformers", "diffusers")


class HeavyImport(RuntimeError):
    """A forbidden import of a heavy module. Deliberately not an `ImportError`, which plugins often catch."""


_left_threads: list[tuple[threading.Thread, str]] = []


def left_threads() -> list[tuple[threading.Thread, str]]:
    """Running non-daemon threads that plugins started while loading, each with the name of the plugin."""
    return [(thread, owner) for thread, owner in _left_threads if thread.is_alive() and not thread.daemon]


class _Stderr(io.TextIOBase):
    """sys.stderr, without control characters."""

    def write(self, text: str) -> int:
        if sys.stderr is not None:
            sys.stderr.write(CONTROL_CHARACTERS.sub("", text))
        return len(text)


@contextmanager
def stdout_to_stderr(descriptor: bool = False) -> Iterator[None]:
    """Redirect the prints of plugins to stderr: stdout has only the output of the command. descriptor: redirect file descriptor 1 too."""
    with redirect_stdout(_Stderr()):
        try:
            kept = os.dup(1) if descriptor else None
        except OSError:  # closed
            kept = None
        try:
            if kept is not None:
                with suppress(OSError):
                    os.dup2(2, 1)
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 1)
                os.close(kept)


def run_guarded(call: Callable[[], Any], owner: str = "") -> tuple[Any, str | None]:
    """Call plugin code without heavy imports, its prints on stderr: (result, None), or (None, reason in one line).

    owner: name of the plugin, for the threads it leaves.
    """
    with stdout_to_stderr(), heavy_imports_refused() as attempts:
        before, threads = set(sys.modules), set(threading.enumerate())
        try:
            answer, reason = call(), None
        except (Exception, SystemExit) as error:  # the one broad except: whatever a stranger's code does, it must not stop the others
            answer, reason = None, _one_line(error)
        _left_threads.extend((thread, owner) for thread in threading.enumerate() if thread not in threads)
    if attempts:
        # A module that swallowed our error stands half imported; a second import of it would look healthy.
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in {importer.partition(".")[0] for importer, _ in attempts}:
                del sys.modules[name]
        importer, heavy = attempts[0]
        return None, f"{importer} imports {heavy}; plugin.py and configs must not import {', '.join(HEAVY[:-1])} or {HEAVY[-1]}"
    return answer, reason


def _one_line(error: BaseException) -> str:
    if isinstance(error, MgzooError):
        return one_line(error.what)
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def heavy_imports_refused() -> Iterator[list[tuple[str, str]]]:
    """Refuse imports of heavy modules in this thread; yields the list of attempts, (importing module, imported module).

    An import statement asks `builtins.__import__` even for what is loaded already, so that is where statements are seen;
    the finder sees the other ways in. Nothing is taken out of `sys.modules`: other threads may be using torch.
    """
    thread, attempts = threading.get_ident(), []

    def refuse(name: str):
        importer = _importer()
        attempts.append((importer, name.partition(".")[0]))
        raise HeavyImport(f"{importer} imports {name}")

    def statement(name, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and name.partition(".")[0] in HEAVY and threading.get_ident() == thread:
            refuse(name)
        return real(name, globals, locals, fromlist, level)

    class Loader:
        @staticmethod
        def create_module(spec):
            refuse(spec.name)

        @staticmethod
        def exec_module(module): ...

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            # Asking whether torch is there (`importlib.util.find_spec`) is free and stays allowed; loading it is refused.
            if name.partition(".")[0] in HEAVY and threading.get_ident() == thread:
                return ModuleSpec(name, Loader)
            return None

    with _one_guard:
        real, builtins.__import__ = builtins.__import__, statement
        sys.meta_path.insert(0, Finder)
        try:
            yield attempts
        finally:
            builtins.__import__ = real
            sys.meta_path.remove(Finder)


_one_guard = threading.RLock()  # two guards that overlap would each put back the other's import


def _importer() -> str:
    """The module on the stack that asked for an import."""
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("importlib", "_frozen_importlib", __name__.partition(".")[0]):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "?") if frame else "?"
