"""The vocabulary of edits (colours, backgrounds, places, looks) and several instruction templates for each kind of edit; no torch.

Training never uses those of `HELD_OUT_TEMPLATES`: benchmarks/edit.py asks with them. All of it is our own.
"""

from __future__ import annotations

COLOURS = {
    "red": (214, 40, 40), "orange": (247, 127, 0), "yellow": (252, 211, 40), "green": (46, 160, 67), "blue": (38, 96, 220), "purple": (126, 60, 190),
    "pink": (250, 130, 180), "brown": (121, 78, 45), "black": (16, 16, 18), "gray": (128, 128, 132), "white": (255, 255, 255),
}  # fmt: skip
"""Name -> RGB in 0-255."""

PATTERNS = ("stripes", "checks", "dots")
"""Of a colour on white."""

PATTERNED = ("red", "green", "blue", "purple", "black")
BACKGROUNDS = (*COLOURS, *(f"{colour} {pattern}" for colour in PATTERNED for pattern in PATTERNS))

TEXTURES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "gray", "striped", "dotted")
MARKS = {"red": (255, 0, 0), "green": (0, 220, 0), "blue": (0, 0, 255), "yellow": (255, 240, 0), "pink": (255, 0, 200)}
PLACES = ("top left", "top right", "bottom left", "bottom right")

LOOKS = {
    "pixels": "pixel art", "pencil": "a pencil drawing", "sepia": "an old brown photo", "negative": "a photo negative", "monochrome": "a black and white photo",
    "poster": "a poster in few colors",
}  # fmt: skip
"""Looks of a whole clip, each a fixed function of its pixels, and how they are called."""

VENDORS = {"twitter": "twitter emoji", "google": "google emoji", "fluent": "fluent emoji"}
"""Whose drawing of an emoji (data/edits64), and how it is called."""

OBJECTS = (
    "Christmas tree", "T-Rex", "airplane", "alarm clock", "ambulance", "ant", "automobile", "badger", "bat", "bear", "beaver", "beetle", "bird", "bison",
    "black cat", "blue heart", "boar", "bomb", "broken heart", "bug", "bus", "butterfly", "camel", "cat", "chicken", "crab", "crocodile", "crystal ball", "deer",
    "dog", "dolphin", "dragon", "droplet", "duck", "eagle", "elephant", "fire", "fire engine", "flamingo", "fox", "frog", "giraffe", "gorilla", "green heart",
    "hedgehog", "helicopter", "hippopotamus", "honeybee", "horse", "kangaroo", "koala", "lady beetle", "leopard", "lion", "lizard", "lobster", "locomotive",
    "monkey", "mosquito", "octopus", "orange heart", "orangutan", "owl", "panda", "parrot", "peacock", "penguin", "pig", "purple heart", "rabbit", "raccoon",
    "racing car", "rainbow", "red heart", "rocket", "rooster", "scorpion", "shark", "snail", "snake", "spider", "squid", "star", "sun", "taxi", "tiger", "tractor",
    "turtle", "umbrella", "unicorn", "whale", "wolf", "yellow heart", "zebra",
)  # fmt: skip
"""Captions of the emoji that are added and removed: short names, silhouettes that stand out from white."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "skintone": ("make the skin tone {tone}", "change the skin tone to {tone}", "give it {tone} skin", "turn the skin {tone}", "{tone} skin tone"),
    "gender": ("make it a {person}", "change it to a {person}", "turn the {was} into a {person}", "show a {person} instead of the {was}"),
    "background": (
        "make the background {back}", "change the background to {back}", "turn the background {back}", "put it on a background of {back}", "{back} background",
    ),
    "add": ("add {a_thing} at the {place}", "put {a_thing} in the {place} corner", "insert {a_thing} at the {place}", "place {a_thing} in the {place}"),
    "remove": ("remove the {thing}", "delete the {thing}", "take away the {thing}", "get rid of the {thing} at the {place}", "remove the {thing} from the {place}"),
    "texture": ("make it {texture}", "make the {name} {texture}", "paint it {texture}", "turn the {name} {texture}", "change its color to {texture}"),
    "segment": ("mark the {marked} in {mark}", "highlight the {marked} in {mark}", "segment the {marked} in {mark}", "cover the {marked} with a {mark} mask"),
    "look": ("turn it into the style of {look}", "redraw it as {look}", "render it as {look}", "change the style to {look}", "in the style of {look}"),
}  # fmt: skip
"""Kind of edit -> the templates that training uses."""

HELD_OUT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "skintone": ("let the skin be {tone}", "recolor the skin: {tone} tone"),
    "gender": ("swap the {was} for a {person}", "it should be a {person}"),
    "background": ("set the backdrop to {back}", "everything behind it should be {back}"),
    "add": ("there should be {a_thing} at the {place}", "draw {a_thing} in the {place} corner"),
    "remove": ("erase the {thing}", "take the {thing} out of the picture"),
    "texture": ("color the {name} {texture}", "I want it {texture}"),
    "segment": ("show where the {marked} is in {mark}", "outline and fill the {marked} with {mark}"),
    "look": ("make it look like {look}", "give the whole clip the look of {look}"),
}
"""Kind of edit -> templates that only the benchmark uses: some of new words, some of known words in a new order."""


def with_article(name: str) -> str:
    """``a rabbit``, ``an owl``."""
    article = "an" if name[0].lower() in "aeio" or name.startswith(("umbrella", "unamused")) else "a"
    return f"{article} {name}"


def base_caption(caption: str) -> str:
    """A caption without its skin tone and hair: ``man surfing: dark skin tone`` -> ``man surfing``."""
    return caption.split(":")[0].strip()


def write_instruction(kind: str, slots: dict[str, str], choice: int, held_out: bool = False) -> str:
    """The instruction of an edit from one of its templates; any whole number is a choice."""
    templates = (HELD_OUT_TEMPLATES if held_out else TEMPLATES)[kind]
    return templates[choice % len(templates)].format(**slots)
