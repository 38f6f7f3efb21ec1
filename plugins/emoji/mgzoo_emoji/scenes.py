"""Scenes, and edits as pairs of scenes that differ in one thing; drawn from a number, written as text, never touching a pixel; no torch.

A scene is an emoji on a background, perhaps with small things in its corners. An edit names what changes; both directions of it, and its
variants, share scenes, so that few clips make many pairs and each is encoded once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from blake3 import blake3

from mgzoo.spec import MgzooError
from mgzoo_emoji.configs import EDITS
from mgzoo_emoji.instruction_templates import BACKGROUNDS, COLOURS, LOOKS, MARKS, OBJECTS, PLACES, TEXTURES, VENDORS, base_caption, with_article

TASK_OF = {
    "skintone": "local", "gender": "local", "background": "background", "add": "add", "remove": "remove", "texture": "texture", "segment": "segment",
    "look": "style", "vendor": "style",
}  # fmt: skip
"""Kind of an edit -> its task."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one clip shows.

    subject: key of an emoji clip, or ``VENDOR/CODE`` for a still of data/edits64. back: of `BACKGROUNDS`. things: (clip key, place), small,
    in front. texture: of `TEXTURES`, of the subject. mark: (clip key, of `MARKS`), filled with a flat colour. look: of `LOOKS`, of everything.
    """

    subject: str
    back: str = "white"
    things: tuple[tuple[str, str], ...] = ()
    texture: str = ""
    mark: tuple[str, str] = ("", "")
    look: str = ""

    def text(self) -> str:
        """The scene as one word, e.g. ``1f98a|on=blue_stripes|with=1f430@top_left``."""
        words = [self.subject]
        words += [f"on={self.back}"] * (self.back != "white") + [f"with={key}@{place}" for key, place in self.things]
        words += [f"texture={self.texture}"] * bool(self.texture) + [f"mark={self.mark[0]}@{self.mark[1]}"] * bool(self.mark[0]) + [f"look={self.look}"] * bool(self.look)
        return "|".join(words).replace(" ", "_")

    @classmethod
    def parse(cls, text: str) -> Scene:
        """What `text` wrote."""
        subject, *rest = text.replace("_", " ").split("|")
        found: dict = {"things": ()}
        for part in rest:
            name, _, value = part.partition("=")
            pair = tuple(value.split("@"))
            if name == "with":
                found["things"] += (pair,)
            else:
                found[{"on": "back"}.get(name, name)] = pair if name == "mark" else value
        return cls(subject=subject, **found)

    def clips(self) -> set[str]:
        """The keys of everything that it shows."""
        return {self.subject, *(key for key, _ in self.things)}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A source and a target that differ in one thing. kind: of `TASK_OF`."""

    kind: str
    source: Scene
    target: Scene

    @property
    def task(self) -> str:
        """One of `mgzoo_emoji.configs.EDITS`."""
        return TASK_OF[self.kind]

    def text(self) -> str:
        """The edit as one line; `parse` takes it back."""
        return f"{self.kind} {self.source.text()} {self.target.text()}"

    @classmethod
    def parse(cls, text: str) -> Edit:
        """What `text` wrote."""
        kind, source, target = text.split(" ")
        return cls(kind=kind, source=Scene.parse(source), target=Scene.parse(target))

    def thing(self) -> tuple[str, str]:
        """(clip key, place) of what is added or removed."""
        (found,) = set(self.source.things) ^ set(self.target.things)
        return found

    def name(self) -> str:
        """What is held out with it, whatever stands beside: the same change of the same subject, in either direction."""
        subject = self.source.subject
        what = {
            "background": lambda: sorted({self.source.back, self.target.back} - {"white"}),
            "add": lambda: [self.thing()[0]],
            "remove": lambda: [self.thing()[0]],
            "texture": lambda: [self.target.texture],
            "segment": lambda: list(self.target.mark),
            "look": lambda: [self.target.look],
        }.get(self.kind)
        label = "object" if self.kind in ("add", "remove") else self.kind
        return " ".join([label, *(sorted([subject, self.target.subject]) if what is None else [subject, *what()])])


class EditPool:
    """What may be drawn: the emoji and their facts, without a pixel.

    facts: clip key -> caption, concept, skintone, person. apart: keys that the text-to-video data holds out. stills: keys ``VENDOR/CODE`` ->
    concept. held_out: texts of edits; whatever has the name of one is never drawn.
    """

    def __init__(self, facts: Mapping[str, Mapping], apart: Sequence[str] = (), stills: Mapping[str, Mapping] | None = None, held_out: Sequence[str] = ()):
        self.facts, self.apart, self.stills = facts, frozenset(apart), stills or {}
        self.names = frozenset(Edit.parse(text).name() for text in held_out)
        self.apart_concepts = frozenset(facts[key]["concept"] for key in self.apart) - frozenset(facts[key]["concept"] for key in facts if key not in self.apart)

    @cached_property
    def known(self) -> list[str]:
        """Keys that may be trained on."""
        return sorted(key for key in self.facts if key not in self.apart)

    @cached_property
    def subjects(self) -> list[list[str]]:
        """Those fit for composites, by concept, so that people with all their skin tones do not crowd the rest out."""
        found: dict[str, list[str]] = {}
        for key in self.known:
            if stands_out(self.facts[key]["caption"]):
                found.setdefault(self.facts[key]["concept"], []).append(key)
        return [found[concept] for concept in sorted(found)]

    @cached_property
    def objects(self) -> list[str]:
        """Keys of what may be added and removed."""
        return [key for key in self.known if self.facts[key]["caption"] in OBJECTS]

    @cached_property
    def variant_pairs(self) -> dict[str, list[tuple[str, str]]]:
        """``skintone`` and ``gender`` -> every (source, target) that may be trained on."""
        return variant_pairs(self.facts, self.known)

    @cached_property
    def vendor_pairs(self) -> list[tuple[str, str]]:
        """(source, target) of stills of one code by two vendors."""
        codes: dict[str, list[str]] = {}
        for key in sorted(self.stills):
            if self.stills[key]["concept"] not in self.apart_concepts:
                codes.setdefault(key.split("/")[1], []).append(key)
        return [(x, y) for keys in codes.values() for x in keys for y in keys if x != y]

    def is_trainable(self, edit: Edit) -> bool:
        """Whether it may be trained on: it shows nothing that is held out, and is no held-out change."""
        return edit.name() not in self.names and not (edit.source.clips() | edit.target.clips()) & self.apart

    def scene(self, number: int) -> tuple[Scene, random.Random]:
        """Scene `number` before any edit, and the dice for the rest of it."""
        dice = random.Random(stable_number("scene", number))
        subject = dice.choice(dice.choice(self.subjects))
        back = "white" if dice.random() < 0.6 else another_back(dice, "white")
        things = ()
        if dice.random() < 0.25:
            things = ((dice.choice([key for key in self.objects if key != subject]), dice.choice(PLACES)),)
        return Scene(subject=subject, back=back, things=things), dice

    def draw_edit(self, task: str, number: int, turn: int) -> Edit:
        """Edit `number` of a task, the same for ever; turn: which of its variants. Held-out ones give way to the next number."""
        for step in range(1000):
            edit = self.draw_candidate(task, number + step * 1_000_003, turn)
            if self.is_trainable(edit):
                return edit
        raise MgzooError(f"no training edits left for the task {task}", remedy="hold out fewer edits, or remove the task from data.config.mix", origin="edit.pairs.v1")

    def draw_candidate(self, task: str, number: int, turn: int) -> Edit:
        assert task in EDITS, task
        if task == "local":
            dice = random.Random(stable_number("local", number))
            kind = dice.choice([kind for kind in ("skintone", "gender") if self.variant_pairs[kind]])
            source, target = dice.choice(self.variant_pairs[kind])
            return Edit(kind=kind, source=Scene(subject=source), target=Scene(subject=target))
        base, dice = self.scene(number)
        taken = {key for key, _ in base.things} | {base.subject}
        thing = dice.choice([key for key in self.objects if key not in taken])
        place = dice.choice([place for place in PLACES if place not in {place for _, place in base.things}])
        back = another_back(dice, base.back)
        texture, look, mark = dice.choice(TEXTURES), dice.choice(list(LOOKS)), dice.choice(list(MARKS))
        both = replace(base, things=(*base.things, (thing, place)))
        which = dice.randrange(3)
        if task == "background":
            pair = (base, replace(base, back=back))
            return Edit(kind=task, source=pair[turn % 2], target=pair[1 - turn % 2])
        if task == "add":
            return Edit(kind=task, source=base, target=both)
        if task == "remove":
            return Edit(kind=task, source=both, target=base)
        if task == "texture":
            return Edit(kind=task, source=base, target=replace(base, texture=texture))
        if task == "segment":
            source = (base, both, both)[which]
            return Edit(kind=task, source=source, target=replace(source, mark=(thing if which == 2 else base.subject, mark)))
        if self.vendor_pairs and turn % 2:
            source, target = dice.choice(self.vendor_pairs)
            return Edit(kind="vendor", source=Scene(subject=source), target=Scene(subject=target))
        return Edit(kind="look", source=base, target=replace(base, look=look))

    # words

    def caption_of(self, key: str) -> str:
        return (self.stills if "/" in key else self.facts)[key]["caption"]

    def slots(self, edit: Edit) -> dict[str, str]:
        """The values that fill an edit's instruction templates."""
        source, target, name = edit.source, edit.target, base_caption(self.caption_of(edit.source.subject))
        if edit.kind == "skintone":
            return {"tone": self.facts[target.subject]["skintone"], "name": name}
        if edit.kind == "gender":
            return {"was": self.facts[source.subject]["person"], "person": self.facts[target.subject]["person"], "name": name}
        if edit.kind in ("add", "remove"):
            key, place = edit.thing()
            thing = base_caption(self.caption_of(key))
            return {"thing": thing, "a_thing": with_article(thing), "place": place, "name": name}
        look = VENDORS[target.subject.split("/")[0]] if edit.kind == "vendor" else LOOKS.get(target.look, "")
        marked = base_caption(self.caption_of(target.mark[0])) if target.mark[0] else ""
        return {"back": target.back, "texture": target.texture, "marked": marked, "mark": target.mark[1], "look": look, "name": name}

    def caption(self, scene: Scene) -> str:
        """What a scene shows, as the text-to-video model would be told."""
        text = self.caption_of(scene.subject)
        text = f"{scene.texture} {text}" if scene.texture else text
        if "/" in scene.subject:
            text += f", {VENDORS[scene.subject.split('/')[0]]}"
        text += "".join(f" with {with_article(base_caption(self.caption_of(key)))} at the {place}" for key, place in scene.things)
        if scene.back != "white":
            text += f" on {with_article(scene.back)} background" if scene.back in COLOURS else f" on {scene.back}"
        text += f", the {base_caption(self.caption_of(scene.mark[0]))} marked in {scene.mark[1]}" if scene.mark[0] else ""
        return f"{text}, {LOOKS[scene.look]}" if scene.look else text


def another_back(dice: random.Random, back: str) -> str:
    """Another background than this one: two times in three a plain colour."""
    names = COLOURS if dice.random() < 2 / 3 else BACKGROUNDS
    return dice.choice([name for name in names if name != back])


def variant_pairs(facts: Mapping[str, Mapping], keys: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """``skintone`` and ``gender`` -> every ordered pair of these clips that differs in nothing else."""
    found: dict[str, dict[tuple, list[str]]] = {"skintone": {}, "gender": {}}
    for key in sorted(keys):
        row = facts[key]
        if row["skintone"]:
            found["skintone"].setdefault((row["concept"], row["person"]), []).append(key)
        if row["person"] in ("man", "woman", "person"):
            found["gender"].setdefault((row["concept"], row["skintone"]), []).append(key)
    differs = {"skintone": "skintone", "gender": "person"}
    return {
        kind: [(x, y) for group in groups.values() for x in group for y in group if facts[x][differs[kind]] != facts[y][differs[kind]]]
        for kind, groups in found.items()
    }


PALE = ("white", "ghost", "cloud", "fog", "milky way", "snow", "dove", "swan", "ZZZ", "spider web", "tooth", "bone", "face exhaling", "footprints", "paw prints")


def stands_out(caption: str) -> bool:
    """Whether the silhouette of this emoji stands out from white; found by looking at all of them."""
    return not any(word in caption for word in PALE)


def stable_number(*words) -> int:
    """A fixed number of these words, the same in every process."""
    return int.from_bytes(blake3(json.dumps(words).encode()).digest(length=7), "little")
