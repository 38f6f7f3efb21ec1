"""Which subject of a picture: one, several, none, a tiny one; what is cut out; and that it never happens silently."""

import pytest
import torch

from mgzoo.media import Media
from mgzoo.spec import MgzooError
from mgzoo_personalize.configs import ReferenceConfig
from mgzoo_personalize.foreground import bounding_box, connected_components, crop_subject, foreground, foreground_mask, segment_on_paper
from mgzoo_personalize.reference import Reference


def paper(height=96, width=160):
    return torch.full((height, width, 3), 255, dtype=torch.uint8)


def disc(picture, x, y, radius, colour=(200, 40, 40)):
    rows, columns = torch.meshgrid(torch.arange(picture.shape[0]), torch.arange(picture.shape[1]), indexing="ij")
    picture[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = torch.tensor(colour, dtype=torch.uint8)
    return picture


def head(**settings):
    return Reference(ReferenceConfig.tiny(**{"finder": "paper", "crop": 64, "smallest": 24, **settings}))


def refused(picture, subject=None, **settings):
    with pytest.raises(MgzooError) as caught:
        head(**settings).cut_reference(Media(video=picture[None]), subject)
    return str(caught.value)


def test_one_subject_is_cut_out_square_and_fills_the_crop():
    crop = head().cut_reference(Media(video=disc(paper(), 50, 40, 20)[None]))
    assert crop.shape == (64, 64, 3) and (crop[0] == 255).all()
    left, top, right, bottom = bounding_box(foreground_mask(crop, 200))
    assert max(left, top) <= 5 and min(right, bottom) >= 59


def test_a_tall_subject_keeps_its_shape():
    picture = paper()
    picture[10:90, 70:90] = 30
    left, top, right, bottom = bounding_box(foreground_mask(crop_subject(picture, foreground(picture), 64)))
    assert (bottom - top) / (right - left) == pytest.approx(4, rel=0.1)


def test_several_subjects_are_counted_from_the_left_and_one_is_to_be_chosen():
    picture = disc(disc(disc(paper(), 130, 50, 20, (30, 30, 200)), 30, 50, 20), 80, 20, 15, (20, 150, 20))
    said = refused(picture)
    assert said.startswith("3 subjects found in the reference (1: 41x41 pixels at 10,30; 2: ")
    assert "--subject 1 … 3" in said
    for number, channel in ((1, 0), (2, 1), (3, 2)):
        middle = head().cut_reference(Media(video=picture[None]), number)[32, 32]
        assert middle.argmax() == channel
    assert refused(picture, 4) == "subject 4 does not exist: 3 found in the reference\n    -> --subject takes 1 … 3"
    assert refused(picture, 0).startswith("subject 0 does not exist")


def test_another_subject_is_not_in_the_crop():
    """Even where the boxes overlap: what is not the chosen one is white."""
    picture = paper(120, 120)
    picture[20:100, 20:30], picture[90:100, 20:100] = 60, 60  # an L
    disc(picture, 70, 40, 22, (30, 30, 200))
    crop = crop_subject(picture, segment_on_paper(picture)[0], 64).int()
    assert not (crop[..., 2] > crop[..., 0] + 40).any()


def test_what_is_small_beside_a_subject_belongs_to_it():
    picture = disc(disc(paper(), 60, 50, 30), 110, 20, 4, (20, 150, 20))
    found = segment_on_paper(picture)
    assert len(found) == 1 and found[0].box[2] > 110


def test_pieces_that_touch_at_a_corner_are_one_and_are_numbered_by_their_last_cell():
    cells = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]]) > 0
    assert connected_components(cells).tolist() == [[1, 0, 0, 2, 2], [0, 1, 0, 0, 2], [0, 0, 0, 0, 0], [3, 0, 4, 0, 5]]
    ring = torch.ones(7, 7, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    ring[3, 3] = True
    assert connected_components(ring)[3].tolist() == [2, 0, 0, 1, 0, 0, 2]


def test_no_subject_is_said():
    assert refused(paper()) == "there is no subject in the reference\n    -> use a picture with one large, unobstructed subject"


def test_a_tiny_subject_is_refused_with_its_size():
    assert refused(disc(paper(), 50, 40, 5)) == (
        "the subject in the reference has 11 pixels, but needs at least 24\n    -> use a larger picture; upscaling does not help"
    )


def test_a_photograph_without_paper_is_refused_by_the_paper_finder_and_taken_whole_by_the_other():
    noise = torch.randint(0, 200, (80, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert refused(noise).startswith("the reference has no white background")
    assert head(finder="whole").cut_reference(Media(video=noise[None])).shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(65, 33), (31, 200), (31, 33)])
def test_odd_sizes_give_the_same_crop_size(size):
    picture = paper(*size)
    picture[2:-2, 2:-2] = 90
    assert head().cut_reference(Media(video=picture[None])).shape == (64, 64, 3)
