"""Where parts come from: said of artifacts, runs and generated files, without torch and without a path of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blake3 import blake3

from mgzoo import media
from mgzoo.artifact.manifest import FileEntry, Manifest, PartEntry, Requirement, WeightsReference, parse_manifest
from mgzoo.cli import run
from mgzoo.distributions import distribution_source
from mgzoo.recipe.lock import __version__, write_lock
from mgzoo.recipe.provenance import KEYS, __file__, artifact_provenance, file_provenance, run_provenance

PUBLIC = {"url": "https://user:secret@git.example:8443/acme/zoo.git?token=x", "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}}
OWN = ("backbone/adapter_model.safetensors",)


def publish(name: str, **parts: PartEntry) -> WeightsReference:
    """An artifact of registry/NAME in the working folder, its mgzoo.json alone; the reference is to its backbone."""
    files = {file: FileEntry(size=1, blake3="0" * 64) for part in parts.values() if isinstance(part.weights, tuple) for file in part.weights}
    made = (Requirement(distribution="mgzoo-backbones", version="0.0.9", source="git+https://git.example/zoo@abcd"),)
    manifest = Manifest(mgzoo="0.1.0", license="mit", parts=parts, files=files, requires=made)
    text = manifest.to_json().encode()
    assert parse_manifest(text) == manifest
    digest = blake3(text).hexdigest()
    folder = Path("registry", name, digest[:12])
    folder.mkdir(parents=True)
    (folder / "mgzoo.json").write_bytes(text)
    (folder.parent / "refs.json").write_text(json.dumps({"main": digest[:12]}))
    return WeightsReference(repo=f"registry/{name}", commit=digest[:12], part="backbone", digest=digest)


@pytest.fixture
def family(tmp_path, monkeypatch) -> list[WeightsReference]:
    """A base, a fine-tune of it, an adapter on that one, and a model that holds the adapter as it came."""
    monkeypatch.chdir(tmp_path)
    use = "backbones.llama3.v1"
    base = publish("base", backbone=PartEntry(use=use, trained=True, weights=("backbone/model.safetensors",)))
    tuned = publish("tuned", backbone=PartEntry(use=use, trained=True, weights=("backbone/model.safetensors",), base=base))
    lora = publish("lora", backbone=PartEntry(use=use, trained=True, weights=OWN, base=tuned))
    held = publish("held", backbone=PartEntry(use=use, weights=lora), sampler=PartEntry(use="acme.sampler.v1"))
    return [base, tuned, lora, held]


@pytest.mark.parametrize("said, expected", [
    (None, "index"),
    (PUBLIC, f"git+https://git.example:8443/acme/zoo.git@{'ab' * 20}"),
    ({**PUBLIC, "url": "file:///home/me/zoo"}, f"local git repository@{'ab' * 20}"),
    ({"url": "file:///home/me/zoo", "dir_info": {"editable": True}}, "local folder, editable"),
    ({"url": "file:///home/me/zoo", "dir_info": {}}, "local folder"),
    ({"url": "https://me@files.example/zoo-1.whl", "archive_info": {"hashes": {"sha256": "cd"}}}, "https://files.example/zoo-1.whl#sha256=cd"),
    ({"url": "file:///home/me/zoo-1.whl", "archive_info": {"hashes": {"sha256": "cd"}}}, "local archive#sha256=cd"),
    ({"url": "file:///home/me"}, "unknown"),
    ([], "unknown"),
], ids=lambda value: None)  # fmt: skip
def test_the_source_of_a_distribution_is_what_pip_recorded_without_paths_and_secrets(said, expected, tmp_path, monkeypatch):
    (tmp_path / "acme_zoo-1.dist-info").mkdir()
    (tmp_path / "acme_zoo-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: acme-zoo\nVersion: 1\n")
    if said is not None:
        (tmp_path / "acme_zoo-1.dist-info/direct_url.json").write_text(json.dumps(said))
    monkeypatch.syspath_prepend(tmp_path)
    assert distribution_source("acme-zoo") == expected
    assert distribution_source("acme-none") == ""


def test_an_artifact_tells_its_code_its_weights_and_all_that_they_came_from(family):
    base, tuned, lora, held = family
    rows = artifact_provenance(f"registry/held/{held.commit}")
    assert rows["backbone"] == {
        "use": "backbones.llama3.v1", "distribution": "mgzoo-backbones", "version": "0.0.9", "source": "git+https://git.example/zoo@abcd",
        "trained": False, "adapter": False, "repo": "registry/lora", "commit": lora.commit, "digest": lora.digest,
        "from": [{"repo": one.repo, "commit": one.commit, "part": "backbone", "digest": one.digest} for one in (lora, tuned, base)],
    }  # fmt: skip
    assert tuple(rows["backbone"]) == KEYS
    assert (rows["sampler"]["distribution"], rows["sampler"]["digest"], rows["sampler"]["from"]) == ("", None, [])
    own = artifact_provenance(f"registry/lora/{lora.commit}")["backbone"]
    assert (own["adapter"], own["repo"], own["digest"], len(own["from"])) == (True, None, lora.digest, 2)


def test_a_base_that_is_another_or_away_tells_no_further(family):
    base, tuned, lora, held = family
    path = Path("registry/tuned", tuned.commit, "mgzoo.json")
    path.write_text(path.read_text().replace('"mit"', '"MIT"'))
    assert [one["repo"] for one in artifact_provenance(f"registry/held/{held.commit}")["backbone"]["from"]] == ["registry/lora", "registry/tuned"]
    path.unlink()
    assert [one["repo"] for one in artifact_provenance(f"registry/held/{held.commit}")["backbone"]["from"]] == ["registry/lora", "registry/tuned"]


def test_show_prints_it(family, capsys):
    base, tuned, lora, held = family
    code = "mgzoo-backbones 0.0.9  git+https://git.example/zoo@abcd"
    chain = f"registry/tuned@{tuned.commit} (blake3 {tuned.digest[:12]}) <- registry/base@{base.commit} (blake3 {base.digest[:12]})"
    for name, line in {
        "lora": f"  backbone  {code}  this artifact at {lora.commit} (blake3 {lora.digest[:12]}), adapter on {chain}",
        "tuned": f"  backbone  {code}  this artifact at {tuned.commit} (blake3 {tuned.digest[:12]}) <- {chain.partition(' <- ')[2]}",
        "base": f"  backbone  {code}  this artifact at {base.commit} (blake3 {base.digest[:12]})",
    }.items():
        assert run(["show", f"registry/{name}"]) == 0
        assert line in capsys.readouterr().out.splitlines()
    assert run(["show", "registry/held"]) == 0
    text = capsys.readouterr().out
    assert f"{code}  registry/lora@{lora.commit} (blake3 {lora.digest[:12]}) <- registry/tuned" in text and "  sampler   ? ?" in text and "no weights" in text


def test_show_of_models_imports_no_torch_and_tells_no_path_of_this_machine(family):
    for extra in ([], ["--json"]):
        code = f"import sys; from mgzoo.cli import run; run(['show', 'registry/lora', *{extra}]); print('torch' in sys.modules, file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
        assert (done.returncode, done.stderr) == (0, "False\n")
        assert str(Path.cwd()) not in done.stdout and str(Path(__file__).parents[1]) not in done.stdout


def test_a_run_without_an_artifact_tells_what_its_lock_does(family, capsys):
    text = "schema: 1\nparts:\n  backbone: {use: backbones.llama3.v1, weights: registry/base, config: {size: tiny}, adapter: {}}\n"
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/recipe.yaml").write_text(text + "  encoders: {text: {use: encoders.bytes.v1, config: {size: tiny}}}\n")
    pins = {"registry/base": {"commit": family[0].commit, "digest": family[0].digest}}
    locked = {"schema": 1, "recipe": "0", "mgzoo": "0", "plugins": {"mgzoo-backbones": "0.0.1", "mgzoo-encoders": __version__}, "weights": pins, "data": {}}
    write_lock("run/recipe.lock.json", locked)
    rows = run_provenance("run")
    assert (rows["backbone"]["version"], rows["backbone"]["source"], rows["backbone"]["adapter"]) == ("0.0.1", "", True)
    assert rows["backbone"]["from"] == [{"repo": "registry/base", "commit": family[0].commit, "part": "backbone", "digest": family[0].digest}]
    assert rows["encoders.text"]["source"].startswith("here: ") and rows["encoders.text"]["from"] == []
    assert run(["show", "run"]) == 0
    assert f"registry/base@{family[0].commit}" in capsys.readouterr().out
    Path("run/recipe.lock.json").write_text("{")
    assert run_provenance("run") == {} and run(["show", "run"]) == 0


def test_a_generated_file_tells_what_was_written_into_it(family, capsys):
    held = family[-1]
    rows = artifact_provenance(f"registry/held/{held.commit}", deep=False)
    assert [one["repo"] for one in rows["backbone"]["from"]] == ["registry/lora"]
    picture = media.Media(video=torch.zeros(1, 8, 8, 3, dtype=torch.uint8), fps=1.0, meta={"model": "registry/held", "parts": rows})
    picture.save("a.png")
    assert run(["show", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] == rows
    assert run(["show", "a.png"]) == 0
    shown = capsys.readouterr().out
    assert f"git+https://git.example/zoo@abcd  registry/lora@{family[2].commit} (blake3 {family[2].digest[:12]})" in shown and '"parts"' not in shown


@pytest.mark.parametrize("embedded", [
    {}, {"parts": 3}, {"parts": {"a": 3}}, {"parts": {"a": {}}}, {"parts": {"a\u202e\x1b[2J": {"from": ["x", {}, {"commit": "\x1b]0;"}], "commit": 7}}},
    {"recipe": []}, {"recipe": {"parts": {"encoders": 3, "backbone": {"use": "backbones.llama3.v1"}}}, "plugins": {"mgzoo-backbones": "9"}},
], ids=str)  # fmt: skip
def test_whatever_a_stranger_embeds_is_shown_and_harms_nobody(embedded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    media.Media(video=torch.zeros(1, 8, 8, 3, dtype=torch.uint8), fps=1.0, meta=embedded).save("a.png")
    assert run(["show", "a.png"]) == 0
    out = capsys.readouterr().out
    block = out.partition("provenance (")[2]
    assert "\x1b" not in block and "\u202e" not in block
    if "plugins" in embedded:
        assert file_provenance(embedded)["backbone"]["version"] == "9" and "mgzoo-backbones 9" in block
