"""Make the third stage's data of tiny/edit: pairs of a clip that the second stage's model made, and the real clip it was made from.

    mgzoo train tiny/edit_pairs --out runs/edit
    python scripts/back_translate.py runs/edit --out data/edits_back
    mgzoo train tiny/edit --out runs/edit --resume

The data is that of the model's recipe. Writes mp4 files and captions.jsonl (file: the real target, source: the made one, task, caption: the reverse
instruction), as edit.pairs.v1 reads them; prints how many were made and kept. Needs mgzoo-edit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import mgzoo
from mgzoo.spec import MgzooError
from mgzoo_edit.back_translation import back_translate
from mgzoo_edit.configs import DirectionConfig
from mgzoo_edit.direction import Direction
from mgzoo_emoji.pairs import Pairs
from mgzoo_emoji.reversible import reversible_edits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run or artifact of the second stage")
    parser.add_argument("--out", default="data/edits_back", help="folder to write")
    parser.add_argument("--count", type=int, default=256, help="pairs to keep")
    parser.add_argument("--batch", type=int, default=32, help="clips made at once")
    parser.add_argument("--steps", type=int, default=16, help="sampling steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=DirectionConfig().least, help="score of edit.direction.v1 below which a pair is left out")
    given = parser.parse_args()
    try:
        model = mgzoo.load(given.model)
        config = model.recipe.data.config
        pairs = Pairs(dataclasses.replace(config, mix={"edit": 1.0}, frames=model.task.config.frames), seed=model.recipe.seed)
        found = back_translate(
            model, reversible_edits(pairs, given.seed), given.out, count=given.count, batch=given.batch, seed=given.seed, steps=given.steps,
            keep=Direction(DirectionConfig(least=given.least)), report=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
    except MgzooError as error:
        sys.exit(str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
