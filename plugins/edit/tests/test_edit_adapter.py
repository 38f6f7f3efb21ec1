"""An adapter on a base that the head widens: what is new learns whole, and all of it is saved."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mgzoo
from mgzoo.model.build import build
from mgzoo.model.checks import meta_problems
from mgzoo.model.lora import adapter_state_dict, detach_adapter, merge_adapters
from mgzoo.model.save import save
from mgzoo.plan import plan
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

sys.path.insert(0, str(Path(__file__).parent))
import edit_micro  # noqa: E402

MODULES = "[embed, conditions.edit_tokens, conditions.edit_shift]"
BASE = edit_micro.RECIPE.replace("task: {use: edit.instruct.v1, config: {frames: 16, height: 16, width: 16, fps: 8, dim: 16}}",
                                 "task: {use: video.text_to_video.v1, config: {frames: 16, height: 16, width: 16, fps: 8}}").replace(", guidance_scales: {source: 1.5, text: 3.0}", "")  # fmt: skip


def adapted(modules: str = MODULES) -> str:
    """The editor's recipe with an adapter on a text-to-video model's backbone."""
    weights = "weights: registry/base@v1"
    text = edit_micro.RECIPE
    for use, more in (("autoencoders.tae.v1, config: {size: tiny}", ""), ("encoders.bytes.v1, config: {width: 32, depth: 1, heads: 2, buckets: 256, max_len: 24}", ", frozen: true"),
                      ("backbones.llama3.v1, config: {depth: 2, width: 64, heads: 2, ffn: 128, patch: [1, 1, 1], max_len: [4, 4, 4], frequency_dim: 32}",
                       f", adapter: {{rank: 2, alpha: 4, modules: {modules}}}")):  # fmt: skip
        assert use in text
        text = text.replace(use, f"{use.partition(',')[0]}, {weights}{more}")
    return text


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a text-to-video model as registry/base@v1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    push(save(edit_micro.model(tmp_path, BASE), tmp_path / "base", dtype=torch.float32), "registry/base@v1", probe=False)
    return tmp_path


@pytest.fixture
def trained(place):
    """An editor whose adapter and new modules have learnt a little."""
    (place / "lora.yaml").write_text(adapted())
    model = build(mgzoo.compose("lora.yaml"))
    batches = [[edit_micro.pair(0.6, colour) for colour in ("red", "blue")], [edit_micro.text_to_video("red")]]
    torch.manual_seed(1)
    optimiser = torch.optim.AdamW([p for p in (*model.backbone.parameters(), *model.task.parameters()) if p.requires_grad], lr=1e-2)
    for step in range(4):
        optimiser.zero_grad()
        model.task.loss(model, model.task.prepare(model, batches[step % 2]), torch.Generator().manual_seed(step)).total.backward()
        optimiser.step()
    return model


def answer(model):
    return model.task.validate(model, model.task.prepare(model, [edit_micro.pair(0.5, "red")]), torch.Generator().manual_seed(5))["loss"]


def test_what_the_base_lacks_learns_and_the_rest_of_it_rests(trained, place):
    base = mgzoo.load("registry/base@v1").backbone.state_dict()
    now = trained.backbone.state_dict()
    own = adapter_state_dict(trained.backbone)
    assert {"embed.weight", "conditions.edit_tokens.null", "conditions.edit_shift.project.weight", "blocks.0.attention.qkv.lora_A.weight"} <= own.keys()
    assert all(torch.equal(base[key], value) for key, value in now.items() if key not in own)
    wide = now["embed.weight"][:, base["embed.weight"].shape[1] :]
    assert wide.abs().max() > 0  # zero at the start


def test_it_is_saved_beside_its_base_and_answers_the_same(trained, place):
    folder = save(trained, place / "editor", dtype=torch.float32)
    again = mgzoo.load(folder)
    assert answer(again) == pytest.approx(answer(trained.eval()), rel=1e-6)
    stored = load_file(folder / "backbone" / "adapter_model.safetensors")
    assert "base_model.model.embed.weight" in stored and not any("w13.weight" in key for key in stored)
    assert verify(folder) == []
    merged = merge_adapters(mgzoo.load(folder))
    assert answer(merged) == pytest.approx(answer(trained), rel=1e-5)
    assert answer(mgzoo.load(save(merged, place / "merged", dtype=torch.float32))) == pytest.approx(answer(merged), rel=1e-6)
    (figures,) = plan(mgzoo.compose(place / "lora.yaml")).stages
    assert figures.trained_parameters == sum(p.numel() for p in (*trained.task.parameters(), *adapter_state_dict(trained.backbone).values()))


@pytest.mark.parametrize("computes, dtype", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_base_in_half_precision_is_trained_on_measured_and_loaded(place, monkeypatch, computes, dtype):
    """What learns whole is float32 in training, stored in the base's bfloat16 and loaded as the base is, or one product would meet both."""
    monkeypatch.setenv("MGZOO_PRECISION", computes)
    push(save(mgzoo.load("registry/base@v1"), place / "half", dtype=torch.bfloat16), "registry/base@v2", probe=False)
    data = "data: {use: edit.pairs.v1, config: {frames: 1, height: 16, width: 16, scenes: 2, mix: {edit: 1.0}}}\n"
    (place / "lora.yaml").write_text(adapted().replace("base@v1", "base@v2").replace("train: {batch: 4, precision: fp32}", data + "train: {steps: 2, batch: 2, validate_every: 1, validation_samples: 2}"))
    run = mgzoo.train(mgzoo.compose("lora.yaml"), out=place / "run")
    assert "held_out_loss" in run.metrics
    model = mgzoo.load(run.artifact)
    assert {p.dtype for p in model.backbone.embed.parameters()} == {dtype}
    assert model.generate("make it red", picture=mgzoo.media.Media(video=edit_micro.shaded(0.5))).video.shape == (1, 16, 16, 3)


def test_peft_reads_the_same_modules(trained, place):
    peft = pytest.importorskip("peft")
    folder = save(trained, place / "editor", dtype=torch.float32)
    plain = mgzoo.load(folder)
    detach_adapter(plain.backbone)  # as wide as the editor's; the values of what is new come from the file
    torch.nn.init.zeros_(plain.backbone.embed.weight)
    wrapped = peft.PeftModel.from_pretrained(plain.backbone, str(folder / "backbone")).eval()
    noisy, t = torch.randn(2, 2 * trained.autoencoder.spec.channels, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.6])
    told = {**trained.encode_conditions({"text": ["make it red", "make it blue"]}), **trained.task(torch.tensor([1, 2]))}
    with torch.no_grad():
        torch.testing.assert_close(wrapped(noisy, t, told), trained.eval().backbone(noisy, t, told))


@pytest.mark.parametrize(("modules", "told"), [("[]", "conditions.edit_tokens, conditions.edit_shift, embed]"), ("[embed, conditions.edit_shift]", "embed, conditions.edit_shift, conditions.edit_tokens]")])
def test_new_weights_without_a_home_are_refused_before_training(place, modules, told):
    (place / "lora.yaml").write_text(adapted(modules))
    (problem,) = meta_problems(mgzoo.compose("lora.yaml"))
    assert "LoRA cannot train " in problem.what and problem.remedy.endswith(f"adapter.modules: [{told}")
    with pytest.raises(MgzooError, match="LoRA cannot train "):
        build(mgzoo.compose("lora.yaml"))
