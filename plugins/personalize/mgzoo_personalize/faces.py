"""Real faces, by dlib: an optional extra. Found and known with weights that its packages hold; nothing is fetched.

Pictures are uint8 (Y, X, 3); boxes left, top, right, bottom in pixels.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy
from torch import Tensor, from_numpy

from mgzoo.spec import MgzooError
from mgzoo_personalize.foreground import Detection

EXTRA = "pip install 'dlib-bin>=20' 'face-recognition-models>=0.3'  (the extra mgzoo-personalize[faces])"
ROOM = 0.25  # of a face's box, added on each side: the detector's ends at brows and chin
MODELS = {
    "landmarks": "shape_predictor_5_face_landmarks.dat",
    "recogniser": "dlib_face_recognition_resnet_model_v1.dat",
}


@functools.cache
def dlib_models():
    """(dlib, detector, landmarks, recogniser). Raises MgzooError with the pip line where a package is missing."""
    try:
        import dlib
    except ImportError as error:
        raise MgzooError(f"the face detector is not installed ({error})", remedy=EXTRA) from None
    # Its own __init__ needs pkg_resources, which setuptools no longer has; only its files are wanted.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise MgzooError("the face detector's weights are not installed (no module named 'face_recognition_models')", remedy=EXTRA)
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = {name: str(folder / file) for name, file in MODELS.items()}
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(files["landmarks"]),
        dlib.face_recognition_model_v1(files["recogniser"]),
    )


def detect_faces(picture: Tensor) -> list[Detection]:
    """The faces of a picture from left to right, boxes enlarged so that hair and chin are in. No mask: the detector finds faces and does
    not segment them, so a square around each is what is cut out.

    dlib's detector of frontal faces: 0.03 s for 600x512 pixels; profiles, and faces of less than about 80 pixels, are not found.
    """
    _, detector, _, _ = dlib_models()
    height, width = picture.shape[:2]
    found = []
    for hit in detector(picture.numpy(), 0):
        room = round(ROOM * hit.width())
        corners = (max(0, hit.left() - room), max(0, hit.top() - room), min(width, hit.right() + room), min(height, hit.bottom() + room))
        found.append(Detection(box=corners, exact=(hit.left(), hit.top(), hit.right(), hit.bottom())))
    return sorted(found, key=lambda one: one.box[0] + one.box[2])


def embed_face(picture: Tensor, face: Detection) -> Tensor:
    """dlib's 128 numbers of one face, float32 (128,): the same person's lie within 0.6 of each other."""
    dlib, _, landmarks, recogniser = dlib_models()
    pixels = picture.numpy()
    shape = landmarks(pixels, dlib.rectangle(*(face.exact or face.box)))
    return from_numpy(numpy.asarray(recogniser.compute_face_descriptor(pixels, shape), dtype=numpy.float32))
