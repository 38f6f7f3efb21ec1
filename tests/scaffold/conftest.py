"""A Python environment of its own for plugins that are installed and uninstalled: it sees all that this one has, and changes none of it."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Place:
    """bin: the environment's programs, `python` and `mgzoo` among them. packages: where pip installs."""

    bin: Path
    packages: Path

    def run(self, *words, cwd, check=True, timeout=600, **env) -> subprocess.CompletedProcess:
        """Run one of the environment's programs."""
        # beside it what this environment has, its ninja above all: another version of it builds DeepSpeed's CPUAdam anew, for all
        path = os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        # no index is asked: what a plugin requires is here, setuptools included
        pip = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        environment = {**os.environ, "PATH": path, "DS_ACCELERATOR": "cpu", **pip, **env}
        program = shutil.which(words[0], path=path)
        done = subprocess.run([program, *map(str, words[1:])], capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def pip(self, *words, cwd) -> subprocess.CompletedProcess:
        return self.run("python", "-m", "pip", *words, cwd=cwd)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Place:
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
    ours = [path for path in {*site.getsitepackages(), sysconfig.get_path("purelib")} if Path(path).is_dir()]
    # addsitedir and not a plain path, so that what is installed as editable here is seen there
    (packages / "beside.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours)))
    for name, module in (("mgzoo", "mgzoo"), ("pip", "pip"), ("pytest", "pytest")):
        script = root / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{root / "bin" / "python"}" -m {module} "$@"\n')
        script.chmod(0o755)
    assert sys.version_info[:2] == tuple(map(int, packages.parent.name.removeprefix("python").split(".")))
    return Place(bin=root / "bin", packages=packages)
