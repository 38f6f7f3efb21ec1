"""Data sets as people have them -> samples, and what every data part needs around them. Nothing here imports torch but `mgzoo.data.sampler`.

    find_data     the folder or file that a config names
    scan_data     its samples with their captions: media with sidecars, tables, lists or tar shards; what is left out is told
    held_out_keys, split_keys   which samples validate and are never trained on
    Inspections, look_at        what media really hold, decoded once and remembered
    DecodedCache                decoded media in memory
    mgzoo.data.sampler          `Stream` and `EpochOrder`: a resumable order for any number of ranks
"""

from mgzoo.data.captions import read_jsonl, read_list, read_text, split_lines
from mgzoo.data.decoded_cache import DecodedCache
from mgzoo.data.files import IMAGES, SOUND, VIDEO
from mgzoo.data.inspection import Inspections, claimed_facts, decode_whole, disagreement, look_at, probed, raise_or_tell, same_rate, stand_in
from mgzoo.data.paths import find_data
from mgzoo.data.scan import Sample, Scan, scan_data
from mgzoo.data.shards import read_members
from mgzoo.data.splits import held_out_keys, split_keys

__all__ = [
    "IMAGES", "SOUND", "VIDEO", "DecodedCache", "Inspections", "Sample", "Scan", "claimed_facts", "decode_whole", "disagreement", "find_data",
    "held_out_keys", "look_at", "probed", "raise_or_tell", "read_jsonl", "read_list", "read_members", "read_text", "same_rate", "scan_data", "split_keys",
    "split_lines", "stand_in",
]  # fmt: skip
