"""What finds the subjects of a picture, by the name that a config gives it, and what is said where there is not just one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mgzoo.spec import MgzooError
from mgzoo_personalize.faces import detect_faces
from mgzoo_personalize.foreground import WHITE, Detection, foreground_mask, segment_on_paper

BORDER = 0.9  # share of a picture's border that, covered, means there is no paper
SubjectDetector = Callable[[Tensor], list[Detection]]
"""A picture uint8 (Y, X, 3) -> its subjects from left to right."""


def detect_on_paper(picture: Tensor, white: int = WHITE) -> list[Detection]:
    """Subjects on white paper. Raises MgzooError for a picture without paper: a photograph is one piece from edge to edge."""
    mask = foreground_mask(picture, white)
    border = float((mask[0].float().mean() + mask[-1].float().mean() + mask[:, 0].float().mean() + mask[:, -1].float().mean()) / 4)
    if border > BORDER:
        raise MgzooError("the reference has no white background, so its subject cannot be separated",
                         remedy="cut out the subject (transparency counts as white), or use a model with finder `faces`")  # fmt: skip
    return segment_on_paper(picture, white)


def detect_whole_picture(picture: Tensor) -> list[Detection]:
    """The whole picture as one subject: a reference that is cut out already."""
    return [Detection(box=(0, 0, picture.shape[1], picture.shape[0]))]


SUBJECT_DETECTORS: dict[str, SubjectDetector] = {"paper": detect_on_paper, "faces": detect_faces, "whole": detect_whole_picture}


def choose_subject(found: list[Detection], which: int | None, smallest: int, what: str, origin: str = "the reference") -> Detection:
    """The one subject, or number `which` from the left. Raises MgzooError for none, several without a choice, and one that is too small:
    a crop is never made silently.

    smallest: pixels of its longer side. what: ``face`` or ``subject``.
    """
    count = len(found)
    if not found:
        raise MgzooError(f"there is no {what} in {origin}", remedy=f"use a picture with one large, unobstructed {what}")
    if which is None and count > 1:
        places = "; ".join(f"{i}: {one.box[2] - one.box[0]}x{one.box[3] - one.box[1]} pixels at {one.box[0]},{one.box[1]}" for i, one in enumerate(found, 1))
        raise MgzooError(f"{count} {what}s found in {origin} ({places})", remedy=f"choose one, from left to right: --subject 1 … {count}; or crop the picture")
    if which is not None and not 1 <= which <= count:
        raise MgzooError(f"subject {which} does not exist: {count} found in {origin}", remedy=f"--subject takes 1 … {count}")
    chosen = found[(which or 1) - 1]
    if chosen.side < smallest:
        raise MgzooError(f"the {what} in {origin} has {chosen.side} pixels, but needs at least {smallest}", remedy="use a larger picture; upscaling does not help")
    return chosen
