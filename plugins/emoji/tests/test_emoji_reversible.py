"""What back-translation starts from: edits of real clips whose reverse can be worded."""

from itertools import islice

from mgzoo_emoji.configs import PairsConfig
from mgzoo_emoji.pairs import Pairs
from mgzoo_emoji.reversible import reversible_edits


def test_edits_are_of_real_clips_and_their_reverse_can_be_said():
    pairs = Pairs(PairsConfig(frames=16, height=16, width=16, scenes=4, texts=4, keep_mb=60), seed=0)
    edits = list(islice(reversible_edits(pairs, 3), 60))
    assert {(clip.extra["task"], clip.extra["reverse_task"]) for clip in edits} == {("local", "local"), ("background", "background"), ("add", "remove")}
    for clip in edits:
        scene = clip.extra["edit"].split(" ")[1]
        assert "|" not in scene and scene not in pairs.pool.apart, "the target must be a clip as it is, and one that may be trained on"
    assert all("white" in clip.extra["reverse_caption"] for clip in edits if clip.extra["reverse_task"] == "background")
    again = [clip.extra["reverse_caption"] for clip in islice(reversible_edits(pairs, 3), 60)]
    assert again == [clip.extra["reverse_caption"] for clip in edits]
