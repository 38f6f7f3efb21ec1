"""Loading, pushing and pulling a large sharded artifact: time and memory, against diffusers, huggingface_hub and plain reading.

    python benchmarks/hub.py [--megabytes 2000] [--shard-megabytes 500] [--runs 5]

Load: every case is a process of its own, in turn, with the files in the page cache. Seconds count from after the imports of the
library and of the model's class (what `mgzoo.load` imports itself, the reader of the recipe and the other parts, does count) until every page of every tensor was read once; `process` is the
whole life of the process, interpreter and imports included. The peers load the same tensors (a transformer of ours, bfloat16):
`diffusers` with `from_pretrained` into the same class, `safetensors` with `load_file` into a dict, `bytes` reads the files
into memory and does nothing with them, `bytes and blake3` digests them too. Of these only mgzoo and the last compare digests.
Peak memory is the growth of the process's highest resident set over what it held before; mapped files count.
Push and pull: to the hub of the tests on loopback and back, through LFS; a new repository, an empty hub and an empty cache each time.
The peer is plain `huggingface_hub`: create_repo and upload_folder, snapshot_download, of the same files. `mgzoo push` checks digests,
headers and every value before it sends; `mgzoo pull` checks them after. Everything lies in a temporary folder,
which needs six times the megabytes and is removed. Left out: a cold disk, Xet, a real network, GPUs, the golden probe.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, ratios, spread, table, write

HERE = Path(__file__).parent
WIDTH = 2048
RECIPE = """
schema: 1
description: a transformer to measure with
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}}
  backbone: {use: backbones.llama3.v1, config: {depth: DEPTH, width: 2048, heads: 16, ffn: 8192}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1}
"""
LOADS = ("mgzoo", "diffusers", "safetensors", "bytes", "bytes and blake3")
MOVES = ("mgzoo push", "huggingface_hub upload_folder", "mgzoo pull", "huggingface_hub snapshot_download")


def same(part):
    """A diffusers model that holds the same module, made by ``part``."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class Same(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, depth: int = 1):
            super().__init__()
            self.part = part()

    return Same


def backbone(depth: int):
    """What makes our backbone of this depth, with nothing left to import or to look up."""
    from mgzoo.contracts import contract_of
    from mgzoo.discovery import discover

    known = recipe(depth)
    part, wires = known.parts["backbone"], contract_of(known)
    target = discover().build_class(part.component.id)
    return lambda: target(part.config, latent=wires.latent, conditions=wires.conditions, concat_channels=wires.concat_channels)


def recipe(depth: int):
    """The recipe that is measured."""
    from mgzoo.recipe.compose import compose

    path = Path(f"depth-{depth}.yaml")
    path.write_text(RECIPE.replace("DEPTH", str(depth)))
    return compose(path)


def prepare(megabytes: int, shard_megabytes: int) -> int:
    """Write the artifact and the peer's folder with the same tensors; returns the depth."""
    import torch

    from mgzoo.model.build import build
    from mgzoo.model.save import save
    from mgzoo.model.skip_init import init_empty_weights

    torch.set_num_threads(1)
    layer = 4 * WIDTH**2 + 3 * WIDTH * 8192
    depth = max(1, round((megabytes * 1e6 / 2) / layer))
    with init_empty_weights():
        model = build(recipe(depth), weights=False)
    generator = torch.Generator().manual_seed(0)
    for part in (model.autoencoder, model.backbone):
        state = {key: torch.empty(value.shape, dtype=torch.bfloat16).normal_(generator=generator).mul_(0.02) for key, value in part.state_dict().items()}
        part.load_state_dict(state, assign=True)
    save(model, "artifact", golden=False, shard_bytes=shard_megabytes * 10**6, dtype=torch.bfloat16)
    peer = same(lambda: model.backbone)(depth=depth)
    peer.save_pretrained("peer", max_shard_size=f"{shard_megabytes}MB")
    return depth


def load(case: str, depth: int) -> dict:
    """Load once, read every page, and say how long it took and what it held."""
    import torch
    from blake3 import blake3

    torch.set_num_threads(1)
    if case == "mgzoo":
        import mgzoo
        pass  # noqa: F401: what is imported first is not counted
    elif case == "diffusers":
        Same = same(backbone(depth))
    elif case == "safetensors":
        from safetensors.torch import load_file
    files = sorted(Path("artifact/backbone").glob("*.safetensors"))
    before, started = held_now(), time.perf_counter()
    if case == "mgzoo":
        held = mgzoo.load("artifact")
    elif case == "diffusers":
        held = Same.from_pretrained("peer", torch_dtype=torch.bfloat16)
    elif case == "safetensors":
        held = {f"{path}/{key}": value for path in files for key, value in load_file(path).items()}
    else:
        held = [path.read_bytes() for path in files]
        if "blake3" in case:
            for data in held:
                blake3(data).hexdigest()
    loaded = time.perf_counter() - started
    if not isinstance(held, list):
        for value in (held if isinstance(held, dict) else held.state_dict()).values():
            value.view(-1)[:: 4096 // value.element_size()].sum()
    read = time.perf_counter() - started
    return {"loaded": loaded, "read": read, "process": time.time() - float(os.environ["STARTED"]), "bytes": peak() - before}


def held_now() -> int:
    """Resident bytes of this process; from here on, `peak` starts anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> int:
    """The highest resident set of this process since `held_now`, bytes."""
    return status("VmHWM")


def status(key: str) -> int:
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) * 1024


def move(case: str, number: int) -> dict:
    """Push or pull once."""
    from huggingface_hub import HfApi, snapshot_download

    from mgzoo.share.pull import pull
    from mgzoo.share.push import push
    pass  # noqa: F401

    repo = f"org/{number}"
    before, started = held_now(), time.perf_counter()
    if case == "mgzoo push":
        push("artifact", repo, probe=False)
    elif case == "mgzoo pull":
        pull(repo)
    elif "upload" in case:
        HfApi().create_repo(repo)
        HfApi().upload_folder(repo_id=repo, folder_path="artifact")
    else:
        snapshot_download(repo)
    return {"read": time.perf_counter() - started, "bytes": peak() - before}


def child(*words, **variables) -> dict:
    """Run one case in a process of its own."""
    command = [sys.executable, str(HERE / "hub.py"), "--case", *map(str, words)]
    done = subprocess.run(command, env={**os.environ, "STARTED": str(time.time()), **variables}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def moves(runs: int) -> dict[str, list[dict]]:
    """Push and pull in turn, each to a hub of its own."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import hub_server

    samples: dict[str, list[dict]] = {case: [] for case in MOVES}
    for number in range(runs):
        for push, pull in zip(MOVES[:2], MOVES[2:], strict=True):
            with hub_server.start("store") as served:
                variables = {"HF_ENDPOINT": served.url, "HF_TOKEN": hub_server.WRITER, "HF_HOME": os.path.abspath("hf"), "HF_HUB_DISABLE_XET": "1",
                             "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
                samples[push].append(child("move", push, number, **variables))
                samples[pull].append(child("move", pull, number, **variables))
            shutil.rmtree("store")
            shutil.rmtree("hf")
    return samples


def rows(samples: dict[str, list[dict]], against: dict[str, str], size: int) -> tuple[list[dict], dict]:
    """Lines of the table and the report."""
    lines, report = [], {}
    for case, found in samples.items():
        seconds = spread([one["read"] for one in found])
        memory = spread([one["bytes"] / size for one in found])
        report[case] = {"seconds": seconds, "peak_over_size": memory}
        for key, name in (("loaded", "seconds_until_returned"), ("process", "seconds_of_the_process")):
            if key in found[0]:
                report[case][name] = spread([one[key] for one in found])
        line = {"case": case, "seconds": seconds["median"], "least": seconds["min"], "most": seconds["max"], "GB/s": size / 1e9 / seconds["median"],
                "process": report[case].get("seconds_of_the_process", {"median": ""})["median"],
                "peak / size": memory["median"], "mgzoo is faster by": ""}  # fmt: skip
        if case in against:
            ours = [one["read"] for one in samples[against[case]]]
            over = ratios(ours, [one["read"] for one in found])
            report[case]["over_mgzoo"] = over
            line["mgzoo is faster by"] = f"{over['median']:.2f} ({over['min']:.2f}-{over['max']:.2f})"
        lines.append(line)
    return lines, report


def main() -> None:
    parser = arguments(__doc__, megabytes=2000, shard_megabytes=500, runs=5)
    parser.add_argument("--case", nargs="+", help="one case of one process; what the benchmark itself calls")
    options = parser.parse_args()
    if options.case:
        what, case, number = options.case
        print(json.dumps((load if what == "load" else move)(case, int(number))))
        return
    out, home = options.out.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mgzoo-benchmark-") as place:
        os.chdir(place)
        try:
            depth = prepare(options.megabytes, options.shard_megabytes)
            size = sum(path.stat().st_size for path in Path("artifact").rglob("*.safetensors"))
            loads: dict[str, list[dict]] = {case: [] for case in LOADS}
            for number in range(options.runs + 1):
                for case in LOADS:
                    sample = child("load", case, depth)
                    if number:
                        loads[case].append(sample)
            first, loaded = rows(loads, dict.fromkeys(LOADS[1:], "mgzoo"), size)
            second, moved = rows(moves(options.runs), {MOVES[1]: MOVES[0], MOVES[3]: MOVES[2]}, size)
        finally:
            os.chdir(home)
    print(table(first + second))
    print("load average", ", ".join(f"{one:.1f}" for one in os.getloadavg()))
    print(write(out, "hub", {"runs": options.runs, "bytes": size, "load_average": os.getloadavg(), "rows": first + second, "load": loaded, "transfer": moved}, ("", "case", "seconds")))


if __name__ == "__main__":
    main()
