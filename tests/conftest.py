"""What tests of several files share: a hub process on loopback."""

import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import hub_server  # noqa: E402

# The client and hf_xet read it when they are imported: nobody's own cache and login are touched.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="mgzoo-tests-hf-")

TAE = """
schema: 1
description: a tiny autoencoder
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
"""


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory):
    """One hub for all tests, without Xet until a test switches it on."""
    with hub_server.start(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def loopback(hub_process, tmp_path, monkeypatch):
    """The hub as HF_ENDPOINT, with a cache and a working folder of its own, logged in as somebody who may write."""
    from huggingface_hub import close_session, constants

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", hub_server.WRITER)
    for name, value in {
        "ENDPOINT": hub_process.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub_process.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits seconds between its retries
    hub_process.reset()
    hub_process.settings(xet=False, part_bytes=1 << 62)
    yield hub_process
    close_session()


@pytest.fixture(scope="session")
def sharded(tmp_path_factory):
    """The artifact of a tiny autoencoder, in three shards."""
    from mgzoo.model.build import build
    from mgzoo.model.save import save
    from mgzoo.recipe.compose import compose

    place = tmp_path_factory.mktemp("sharded")
    (place / "recipe.yaml").write_text(TAE)
    return save(build(compose(place / "recipe.yaml")), place / "model", shard_bytes=120_000)


@pytest.fixture
def model(sharded, loopback):
    """A copy of it in the working folder."""
    return Path(shutil.copytree(sharded, "model"))


@pytest.fixture
def repo():
    """The name of a repository that nobody has used."""
    return f"org/{uuid.uuid4().hex[:12]}"
