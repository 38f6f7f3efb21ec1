"""The tasks of editing, and the rule that guesses one from an instruction; no torch."""

from __future__ import annotations

import re

TASKS = ("text_to_video", "local", "add", "remove", "background", "style", "texture", "segment")
"""What a sample asks for. ``text_to_video`` has no source; the place of a task in this list is the place of its learned vector, so new
tasks go to the end. The seven edits are our reading of Movie Gen Edit's list: the paper names them only in part."""

EDITS = TASKS[1:]

_COLOURS = "red|orange|yellow|green|blue|purple|violet|pink|black|white|gr[ae]y|brown|gold|golden|silver"
_RULES = (
    ("local", r"skin|skinned|hair"),
    ("segment", r"mark|segment|highlight|outline|mask|show where"),
    ("remove", r"remove|delete|erase|get rid of|without|take .*\b(?:away|out|off)"),
    ("background", r"background|backdrop|behind|sky|surroundings|scenery"),
    ("style", r"style|look of|look like|redraw|render|drawing|sketch|painting|cartoon|photo|poster|art|emoji"),
    ("add", r"add|insert|put|place|give it an?|draw an?|there should be|wear|wearing"),
    ("texture", rf"colou?r|recolou?r|paint|tint|texture|wooden|metal|metallic|striped|dotted|marble|{_COLOURS}"),
)
"""In this order: a narrower word before a broader one, so that ``mark the dog in red`` is no change of colour."""


def guess_task(instruction: str) -> str:
    """The edit that an instruction asks for: the first of `_RULES` that one of its words meets, or ``local``.

    Our choice: the paper has no such step in public. A person who disagrees says ``edit=``; what was taken is said in the file's meta.
    """
    words = instruction.lower()
    return next((task for task, pattern in _RULES if re.search(rf"\b(?:{pattern})\b", words)), "local")
