"""Which clips show one person throughout: on drawn clips, and with the extra on a photograph made to move."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from mgzoo import media
from mgzoo.parts import Clip
from mgzoo_personalize.configs import FacesConfig, OneIdentityConfig
from mgzoo_personalize.identity_filters import Faces, OneIdentity, sample_times

HAVE_DLIB = all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))
needs_dlib = pytest.mark.skipif(not HAVE_DLIB, reason="the extra mgzoo-personalize[faces] (dlib-bin, face-recognition-models) is not installed")


def clip(video, fps=8.0):
    return Clip(key="c", digest="00" * 16, caption="", frames=len(video), height=video.shape[1], width=video.shape[2], fps=fps, load=lambda: video)


def drawn(*frames, size=64):
    """Each frame a list of (x, y, radius, colour) discs on white."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    video = torch.full((len(frames), size, size, 3), 255, dtype=torch.uint8)
    for picture, discs in zip(video, frames):
        for x, y, radius, colour in discs:
            picture[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = torch.tensor(colour, dtype=torch.uint8)
    return video


RED, BLUE = (200, 60, 20), (20, 60, 200)
PAPER = FacesConfig(finder="paper")
PIXELS = OneIdentityConfig(finder="paper", recogniser="pixels", least=0.8)  # the paper around a subject makes any two pictures somewhat alike


def test_frames_are_looked_at_once_a_second():
    assert sample_times(16, 5.0, 1.0) == [0, 5, 10, 15]
    assert sample_times(72, 24.0, 1.0) == [0, 24, 48]
    assert sample_times(1, 0.0, 1.0) == [0] and sample_times(5, 16.0, 1.0) == [0]


def test_the_score_is_the_subjects_share_and_tells_none_and_several():
    one = [(30, 30, 15, RED)]
    found = Faces(PAPER)([clip(drawn(*[one] * 16)), clip(drawn(*[one] * 8, *[[]] * 8)), clip(drawn(*[one] * 8, *[[*one, (55, 55, 8, RED)]] * 8))])
    assert found[0] == pytest.approx(3.14159 * 15**2 / 64**2, rel=0.05) and found[1:] == [0.0, -1.0]
    assert [PAPER.keeps(score) for score in found] == [True, False, False]


def test_another_identity_after_a_cut_scores_low_and_the_same_in_another_place_high():
    half = (30, 30, 15, RED), (34, 22, 7, BLUE)
    moved = (34, 33, 15, RED), (38, 25, 7, BLUE)
    turned = (30, 30, 15, BLUE), (26, 38, 7, RED)
    steady, cut, gone = (OneIdentity(PIXELS)([clip(drawn(*[half] * 8, *[other] * 8))])[0] for other in (moved, turned, []))
    assert steady > 0.9 > 0.8 > cut and gone == -1.0
    assert PIXELS.keeps(steady) and not PIXELS.keeps(cut)


def test_without_the_extra_the_pip_line_is_said():
    """In a process where dlib cannot be imported."""
    code = """
import sys
sys.modules["dlib"] = None
import torch
from mgzoo.spec import MgzooError
from mgzoo_personalize.faces import detect_faces
try:
    detect_faces(torch.zeros(64, 64, 3, dtype=torch.uint8))
except MgzooError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}).stdout
    assert said.startswith("the face detector is not installed") and "pip install 'dlib-bin>=20'" in said and "mgzoo-personalize[faces]" in said


@pytest.fixture(scope="module")
def portrait():
    """Rear Admiral Grace Hopper, a photograph of the US Navy in the public domain that matplotlib ships: uint8 (600, 512, 3)."""
    return media.read(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").video[0]


@needs_dlib
def test_a_real_face_is_found_and_two_are_counted(portrait):
    from mgzoo_personalize.faces import detect_faces

    assert len(detect_faces(portrait)) == 1
    both = detect_faces(torch.cat([portrait, portrait.flip(1)], 1))
    assert len(both) == 2 and both[0].box[0] < both[1].box[0]
    assert detect_faces(torch.full((300, 300, 3), 255, dtype=torch.uint8)) == []


@needs_dlib
def test_a_moving_photograph_of_one_face_is_kept_and_one_that_ends_in_two_is_not(portrait):
    pan = torch.stack([torch.roll(portrait, 4 * i, 1)[::2, ::2] for i in range(9)])
    two = torch.cat([portrait, portrait.flip(1)], 1)[::2, ::4]
    ends = torch.cat([pan[:8, :, :256], two[None, :, :256]])
    identity = OneIdentity(OneIdentityConfig(every=0.5))
    kept, lost = identity([clip(pan), clip(ends)])
    assert identity.config.keeps(kept) and kept > 0.95
    assert lost == -1.0
