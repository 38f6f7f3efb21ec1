"""Silhouettes, backgrounds and scenes, on pictures whose right answer is known."""

from __future__ import annotations

import pytest
import torch

from mgzoo_emoji.composites import apply_look, apply_texture, background, changed_region, extract_matte, render_scene, silhouette, small_object, to_uint8
from mgzoo_emoji.instruction_templates import BACKGROUNDS, COLOURS, LOOKS, MARKS, TEXTURES
from mgzoo_emoji.scenes import Scene


def disc(height: int = 32, hole: bool = False, open_hole: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on white, uint8 (2, Y, X, 3), and the disc as bool (Y, X); with a white hole in it, that is open to the border or not."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(height), indexing="ij")
    inside = (y - 15).square() + (x - 15).square() <= 81
    picture = torch.full((height, height, 3), 255, dtype=torch.uint8)
    picture[inside] = torch.tensor([200, 30, 30], dtype=torch.uint8)
    if hole:
        picture[13:18, 13:18] = 255
    if open_hole:
        picture[13:18, 13:] = 255
    return picture.expand(2, -1, -1, -1).clone(), inside


def smooth() -> torch.Tensor:
    """The disc with a rim of one mixed pixel, as a scaled picture has."""
    video, _ = disc(64)
    return to_uint8(torch.nn.functional.avg_pool2d(video.permute(0, 3, 1, 2).float() / 255, 2).permute(0, 2, 3, 1))


def test_a_silhouette_is_all_but_the_white_that_reaches_the_border():
    video, inside = disc(hole=True)
    assert torch.equal(silhouette(video), inside.expand(2, -1, -1)), "a hole inside belongs to the subject"
    video, inside = disc(open_hole=True)
    inside = inside.clone()
    inside[13:18, 13:] = False
    assert torch.equal(silhouette(video), inside.expand(2, -1, -1)), "a bay that is open to the border is paper"


def test_white_that_winds_its_way_in_is_paper_all_the_way():
    video = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    path = [(0, 3), *[(y, 3) for y in range(18)], *[(17, x) for x in range(3, 17)], *[(y, 16) for y in range(4, 18)], *[(4, x) for x in range(8, 17)]]
    for y, x in path:
        video[0, y, x] = 255
    found = ~silhouette(video)[0]
    assert sorted(map(tuple, found.nonzero().tolist())) == sorted(set(path))


def test_what_is_cut_out_and_laid_back_on_white_is_the_clip_itself():
    soft = smooth()
    shown, _ = render_scene(Scene(subject="disc"), {"disc": extract_matte(soft)})
    assert (to_uint8(shown).int() - soft.int()).abs().max() <= 3


def test_a_soft_rim_takes_the_background_and_leaves_no_white_fringe():
    soft = smooth()
    dark, _ = render_scene(Scene(subject="disc", back="black"), {"disc": extract_matte(soft)})
    assert dark.amin(-1).max() < 0.35, "no pixel is pale"
    hard = torch.where(silhouette(soft)[..., None], soft.float() / 255, torch.zeros(()))
    assert hard.amin(-1).max() > 0.6, "a hard mask leaves some, so the test can tell"


def test_a_new_background_changes_the_background_alone():
    video, inside = disc()
    cut = {"disc": extract_matte(video)}
    for name in BACKGROUNDS:
        shown, where = render_scene(Scene(subject="disc", back=name), cut)
        assert torch.equal(where["disc"][0], inside)
        assert torch.equal(to_uint8(shown)[:, inside], video[:, inside]), name
        assert torch.allclose(shown[0][~inside], background(name, 32, 32)[~inside], atol=1e-6), name


def test_backgrounds_differ():
    drawn = torch.stack([background(name, 64, 64) for name in BACKGROUNDS]).flatten(1)
    apart = torch.cdist(drawn, drawn).square() / drawn.shape[1]
    apart.fill_diagonal_(1)
    assert apart.min() > 0.005


def test_a_thing_lies_in_its_corner_in_front_of_the_subject():
    video, inside = disc()
    blue = torch.where((video == 255).all(-1, keepdim=True), video, torch.tensor([20, 20, 220], dtype=torch.uint8))
    cut = {"disc": extract_matte(video), "ball": extract_matte(blue)}
    bare, _ = render_scene(Scene(subject="disc"), cut)
    for place, rows, columns in (("top left", slice(0, 16), slice(0, 16)), ("bottom right", slice(16, 32), slice(16, 32)), ("top right", slice(0, 16), slice(16, 32))):
        shown, where = render_scene(Scene(subject="disc", things=(("ball", place),)), cut)
        region = changed_region(to_uint8(bare), to_uint8(shown), around=0)
        outside = region.clone()
        outside[:, rows, columns] = False
        assert region.any() and not outside.any(), place
        wide = torch.nn.functional.max_pool2d(where["ball"].float(), 3, 1, 1) > 0  # its rim
        assert not (where["ball"] & ~region).any() and not (region & ~wide).any() and not (where["ball"] & where["disc"]).any()


def test_a_small_thing_keeps_its_shape_and_loses_its_margin():
    video, _ = disc(64)
    picture, mask = small_object(*extract_matte(video), 64, 64)
    assert picture.shape[:2] == mask.shape == (27, 27) and mask[13].min() > 0.9 and mask[0, 0] < 0.3
    assert torch.allclose(picture[13, 13], torch.tensor([200, 30, 30]) / 255, atol=0.01)


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_texture_has_the_hue_of_its_name_and_keeps_the_order_of_shades(texture):
    ramp = torch.linspace(0, 1, 50)[None, None, :, None].expand(1, 24, 50, 3)
    made = apply_texture(ramp, texture)
    assert ((made >= 0) & (made <= 1)).all() and not torch.allclose(made, ramp, atol=0.02) or texture == "gray"
    if texture in COLOURS:
        assert (made[0, 0].sum(-1).diff() >= -1e-4).all(), "lighter stays lighter"
        middle = made[0, 0, 27] - made[0, 0, 27].mean()
        wanted = torch.tensor(COLOURS[texture]) / 255
        wanted = wanted - wanted.mean()
        if texture != "gray":
            assert torch.cosine_similarity(middle, wanted, dim=0) > 0.98


def test_a_mark_fills_what_shows_of_its_object_and_nothing_else():
    video, inside = disc()
    blue = torch.where((video == 255).all(-1, keepdim=True), video, torch.tensor([20, 20, 220], dtype=torch.uint8))
    cut, scene = {"disc": extract_matte(video), "ball": extract_matte(blue)}, Scene(subject="disc", things=(("ball", "top left"),))
    plain, where = render_scene(scene, cut)
    for colour, rgb in MARKS.items():
        shown, _ = render_scene(Scene(subject="disc", things=scene.things, mark=("disc", colour)), cut)
        filled = (to_uint8(shown) == torch.tensor(rgb, dtype=torch.uint8)).all(-1)
        # the rim of the ball mixes with what is behind it
        assert (filled & ~where["disc"]).sum() == 0 and (where["disc"] & ~filled).sum() <= 0.1 * where["disc"].sum(), colour
        assert torch.equal(shown[:, ~inside], plain[:, ~inside])


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_is_a_function_of_each_frame_and_changes_it(look):
    video = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    made = apply_look(video, look)
    assert made.shape == video.shape and ((made >= 0) & (made <= 1)).all()
    assert torch.allclose(made[1:2], apply_look(video[1:2], look), atol=1e-6), "of that frame alone"
    assert (made - video).abs().mean() > 0.03


def test_changed_finds_where_two_clips_differ_and_widens_it():
    source = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    target = source.clone()
    target[1, 8, 8, 2] = 200
    target[0, 3, 3] = 5  # less than an edit
    region = changed_region(source, target, around=2)
    assert not region[0].any() and region[1].sum() == 25 and region[1, 6:11, 6:11].all()
