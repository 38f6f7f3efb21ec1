"""Edits of real clips whose reverse can be worded: what back-translation starts from (Movie Gen Edit, section 5, stage three).

On emoji these are skin tone, gender, background (back to white) and adding (then: remove).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from mgzoo.parts import Clip
from mgzoo_emoji.instruction_templates import write_instruction
from mgzoo_emoji.pairs import Pairs
from mgzoo_emoji.scenes import Edit, Scene

FORWARD = ("skintone", "gender", "background", "add")
REVERSE = {"add": "remove"}


def reversible_edits(pairs: Pairs, seed: int = 0) -> Iterator[Clip]:
    """Endless forward edits of real clips that may be trained on. ``extra`` also holds the way back: ``reverse_task`` and ``reverse_caption``."""
    dice, pool = random.Random(seed), pairs.pool
    while True:
        kind = dice.choice(FORWARD)
        if kind in ("skintone", "gender"):
            if not pool.variant_pairs[kind]:
                continue
            source, target = (Scene(subject=key) for key in dice.choice(pool.variant_pairs[kind]))
        else:
            drawn = pool.draw_edit(kind, dice.randrange(2**31), 0)
            source = Scene(subject=drawn.source.subject)
            backs = [back for back in (drawn.source.back, drawn.target.back) if back != source.back]
            target = Scene(subject=source.subject, back=backs[0]) if kind == "background" else Scene(subject=source.subject, things=drawn.target.things[-1:])
        there, back = Edit(kind=kind, source=source, target=target), Edit(kind=REVERSE.get(kind, kind), source=target, target=source)
        if pool.is_trainable(there) and pool.is_trainable(back):
            words = [write_instruction(edit.kind, pool.slots(edit), dice.randrange(2**16)) for edit in (there, back)]
            clip = pairs.pair(there, words[0])
            yield replace(clip, extra={**clip.extra, "reverse_task": back.task, "reverse_caption": words[1]})
