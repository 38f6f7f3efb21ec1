"""What a person demands of a model before it may come here: its licence, its author, its requirements."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from test_hub_faults import planted

from mgzoo.artifact.manifest import Requirement, commit_of, read_manifest, write_manifest
from mgzoo.cli import output, run
from mgzoo.errors import ArtifactError
from mgzoo.hub.lookup import find_local, only_licenses
from mgzoo.model.build import build
from mgzoo.model.load import load
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.describe import describe
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import ConditionSpec, MgzooError, RecipeError

FROM = """
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, weights: REF, config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0],
                                                                 decoder_blocks: [0, 0, 1, 0], attention: false}}
  task: {use: autoencoders.reconstruct.v1}
policy: {licenses: [LICENSES]}
"""


def recipe(ref: str, licenses: str) -> Path:
    path = Path("recipe.yaml")
    path.write_text(FROM.replace("REF", ref).replace("LICENSES", licenses))
    return path


def weights_fetched(loopback) -> list[str]:
    return [line for line in loopback.lines() if line.startswith("GET") and ("safetensors" in line or "/-/objects/" in line)]


@pytest.fixture
def noncommercial(model, repo):
    """A repository whose artifact is under cc-by-nc-4.0."""
    describe(model, license="cc-by-nc-4.0")
    push(model, f"{repo}@v1", probe=False)
    return f"{repo}@v1"


def test_a_licence_that_is_not_allowed_stops_a_pull_before_any_weight(loopback, noncommercial, capsys):
    loopback.log()
    with pytest.raises(ArtifactError) as caught:
        pull(noncommercial, licenses=("apache-2.0", "mit"))
    assert [one.kind for one in caught.value.problems] == ["license"] and weights_fetched(loopback) == []
    assert find_local(noncommercial) is None
    assert run(["pull", noncommercial, "--licenses", "apache-2.0, mit"]) == 1
    assert "the licence 'cc-by-nc-4.0' is not allowed" in capsys.readouterr().err and weights_fetched(loopback) == []
    assert run(["pull", noncommercial, "--licenses", "CC-BY-NC-4.0"]) == 0 and weights_fetched(loopback)


def changed_contract(model, **changes):
    manifest = read_manifest(model)
    write_manifest(dataclasses.replace(manifest, contract=dataclasses.replace(manifest.contract, **changes)), model)


def other_latents(model):
    changed_contract(model, latent=dataclasses.replace(read_manifest(model).contract.latent, channels=4))


def another_task(model):
    manifest = read_manifest(model)
    parts = {**manifest.parts, "task": dataclasses.replace(manifest.parts["task"], use="video.text_to_video.v1")}
    write_manifest(dataclasses.replace(manifest, parts=parts), model)


def written(text):
    def change(model):
        with open(model / "recipe.yaml", "a") as file:
            file.write(text)
        write_manifest(read_manifest(model), model)

    return change


CONTRACTS = {
    "latents": (other_latents, "contract", "contract.latent: is space "),
    "conditions": (lambda model: changed_contract(model, conditions=(ConditionSpec(name="text", dim=8),)), "contract", "contract.conditions: is name text dim 8 "),
    "feeds": (lambda model: changed_contract(model, concat_channels=3), "contract", "contract.feeds: is 3, recipe.yaml and the plugins give 0"),
    "another part": (another_task, "part", "parts.task: the part is video.text_to_video.v1, recipe.yaml has autoencoders.reconstruct.v1"),
    "a recipe that does not hold": (written("trust_remote_code: true\n"), "unknown-key", "trust_remote_code"),
    "a recipe without end": (written("# and so on\n" * 20_000), "syntax", "more than 200,000"),
}


@pytest.mark.parametrize("where", ["endpoint", "folder"])
@pytest.mark.parametrize("case", CONTRACTS)
def test_a_contract_that_is_not_the_recipes_is_told_with_the_rest_before_any_weight(loopback, model, repo, case, where):
    change, kind, said = CONTRACTS[case]
    change(model)
    if where == "endpoint":
        planted(model, repo)
    else:
        repo, commit = "./hub/tae", commit_of(model)
        shutil.copytree(model, Path("hub/tae") / commit)
        Path("hub/tae/refs.json").write_text(f'{{"main": "{commit}"}}')
    loopback.log()
    with pytest.raises(ArtifactError) as caught:
        pull(repo, "pulled", licenses=("mit",))
    assert [one.kind for one in caught.value.problems] == ["license", kind] and said in str(caught.value)
    assert weights_fetched(loopback) == [] and not Path("pulled").exists()
    assert kind in [one.kind for one in verify(model, probe=False)]


def test_a_recipe_that_came_changed_is_not_composed_and_not_kept(loopback, model, repo):
    planted(model, repo)
    loopback.faults({"on": "GET .*/recipe.yaml", "do": "flip"})
    with pytest.raises(ArtifactError) as caught:
        pull(repo, "pulled", licenses=("mit",))
    assert [one.kind for one in caught.value.problems] == ["license", "digest"] and weights_fetched(loopback) == []
    loopback.faults()
    assert verify(pull(repo, "pulled"), probe=False) == []


def test_policy_licenses_of_a_recipe_hold_for_the_weights_it_starts_from(loopback, noncommercial):
    loopback.log()
    with pytest.raises(ArtifactError, match="'cc-by-nc-4.0' is not allowed"):
        build(compose(recipe(noncommercial, "apache-2.0")))
    assert weights_fetched(loopback) == [] and find_local(noncommercial) is None
    assert build(compose(recipe(noncommercial, "apache-2.0, cc-by-nc-4.0")))
    with pytest.raises(RecipeError) as caught:  # now it is here, and the check of the recipe itself can tell
        compose(recipe(noncommercial, "apache-2.0"))
    assert [(one.key, one.kind) for one in caught.value.problems] == [("parts.autoencoder.weights", "license")]


def test_a_base_of_another_licence_is_refused_too(loopback, noncommercial, repo, monkeypatch):
    """The fine-tune is free, what it stands on is not."""
    based = save(build(compose(recipe(noncommercial, ""))), Path("based"), golden=False)
    assert read_manifest(based).parts["autoencoder"].requires.repo == repo
    push(based, f"{repo}-based", probe=False)
    with pytest.raises(ArtifactError, match="'cc-by-nc-4.0' is not allowed"):
        pull(f"{repo}-based", "here", licenses=("apache-2.0",))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("another-cache").resolve()))
    loopback.log()
    with pytest.raises(ArtifactError, match="'cc-by-nc-4.0' is not allowed"):
        pull(f"{repo}-based", "here", licenses=("apache-2.0",))
    assert weights_fetched(loopback) == [] and not Path("here").exists()


def test_a_licence_is_held_offline_as_well(loopback, noncommercial, monkeypatch):
    from huggingface_hub import constants

    pull(noncommercial)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ArtifactError, match="'cc-by-nc-4.0' is not allowed"):
        pull(noncommercial, licenses=("mit",))
    with pytest.raises(ArtifactError, match="'cc-by-nc-4.0' is not allowed"), only_licenses(["mit"]):
        load(noncommercial)


def test_a_signature_travels_over_the_network_and_is_held_before_any_weight(loopback, model, repo):
    pytest.importorskip("model_signing.signing", reason="pip install model-signing pyopenssl", exc_type=ImportError)
    from test_hub_signing import keys

    keys(Path("."), "ann")
    keys(Path("."), "bob")
    push(model, f"{repo}@unsigned", probe=False)
    push(model, f"{repo}@signed", sign="ann.pem", probe=False)
    for ref, key, said in ((f"{repo}@unsigned", "ann.pub", "the artifact is not signed"), (f"{repo}@signed", "bob.pub", "Key mismatch")):
        loopback.log()
        with pytest.raises(ArtifactError, match=said) as caught:
            pull(ref, "pulled", require_signature=key)
        assert caught.value.problems[-1].kind == "signature" and weights_fetched(loopback) == [] and not Path("pulled").exists()
    pull(f"{repo}@signed", "pulled", require_signature="ann.pub")
    assert verify("pulled", probe=False, require_signature="ann.pub") == []


def test_requirements_are_those_of_the_parts_and_no_others_may_leave(loopback, model):
    manifest = read_manifest(model)
    evil = Requirement(distribution="evil-package", version="6.6.6")
    for requires, said in (((*manifest.requires, evil), "evil-package is required, but supplies no part"),
                           ((), "mgzoo-autoencoders supplies a part, but is not required")):
        write_manifest(dataclasses.replace(manifest, requires=requires), model)
        with pytest.raises(ArtifactError, match=said):
            push(model, "./hub/tae", probe=False)
    assert not Path("hub").exists()


def test_a_hubs_folder_is_verified_whole(loopback, model):
    first = push(model, "./hub/tae@v1", probe=False)
    describe(model, metrics={"steps": 1})
    second = push(model, "./hub/tae", probe=False)
    describe(model, metrics={"steps": 2})
    push(model, "./hub/other", probe=False)
    assert verify("hub", probe=False) == [] == verify("./hub/tae", probe=False)
    (Path("hub/tae") / first / "LICENSE").write_text("mine")
    (Path("hub/tae") / second / "README.md").unlink()
    assert sorted(one.kind for one in verify("hub", probe=False)) == ["missing-file", "size"]
    shutil.rmtree("hub/tae")
    assert verify(Path("hub"), probe=False) == []


def test_what_strangers_wrote_cannot_move_the_cursor(capsys):
    output.error(MgzooError("bad \x1b[2J\x9b1m name", remedy="right \u202e left", origin="a\rb"))
    assert capsys.readouterr().err == "error: a�b: bad �[2J�1m name\n    -> right � left\n"
    assert output.table([("a\x1b", "b\nc")]) == "  a�  b\nc"
