"""Write docs/figures.md, and what the models' cards quote, from the results that lie in benchmarks/results.

    python benchmarks/report.py          after any of the other benchmarks; prints the names of results that are missing
"""

from __future__ import annotations

import json
from pathlib import Path

import common

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "figures.md"
LEARNT = ("reconstruction", "prompt_alignment", "sampling_steps", "ablations", "edit", "personalize", "screening", "codec", "audio")
SPEED = ("startup", "precision", "backbone", "packing", "decode", "training", "zero", "memory", "data", "sampler_overhead", "hub", "mfu")
SHIPPED_EDITOR = "registry/edit"
TOP = """\
# Figures

Every table here was written by the command above it; `python benchmarks/report.py` gathers them. Ratios of one run are worth comparing, absolute times belong to
the machine that is named. What each figure means, what it leaves out and how it is taken stands in the first lines of its script.
"""


def says(name: str) -> str:
    """The first line of a benchmark's docstring, without importing what it measures."""
    import ast

    return (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or name).splitlines()[0]


def cell(value) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict) and {"median", "min", "max"} <= set(value):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    return str(value)


def markdown(rows: list[dict]) -> str:
    """Rows as tables: a new one wherever the columns change."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            lines += [""] * bool(lines) + ["| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
        lines.append("| " + " | ".join(cell(row[c]) for c in columns) + " |")
    return "\n".join(lines)


def section(name: str, notes: dict[str, str]) -> str:
    result = json.loads((common.RESULTS / f"{name}.json").read_text())
    machine = result["machine"]
    where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores ({', '.join(machine['extensions'])}), torch {machine['torch']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    parts = [f"### {says(name)}", f"`{result['command']}` · {where}", markdown(result["rows"])]
    if name in notes:
        parts.append(notes[name])
    if (common.RESULTS / f"{name}.png").is_file():
        parts.append(f"![{name}](../benchmarks/results/{name}.png)")
    return "\n\n".join(parts)


def evaluations() -> dict[str, list[dict]]:
    """What the cards of the shipped models quote, by model: scripts/ship.py --evaluation takes such a list."""
    found: dict[str, list[dict]] = {}
    if (path := common.RESULTS / "reconstruction.json").is_file():
        result = json.loads(path.read_text())
        rows = {row["what"]: row for row in result["rows"]}
        found["tae-emoji"] = [
            {"name": f"{key.upper()}{', mean over clips' * (key == 'psnr')} of held-out {what}s", "value": round(rows[f"emoji {what}: registry/tae-emoji"][key], digits),
             "baseline": f"{rows[f'emoji {what}: PCA'][key]:.{digits}f} (principal components, same rate)", "command": result["command"]}
            for what in ("video", "picture") for key, digits in (("psnr", 2), ("ssim", 3))
        ]
    if (path := common.RESULTS / "prompt_alignment.json").is_file():
        result = json.loads(path.read_text())
        names = {"r1": "prompted clip is the nearest of 2,109", "r10": "prompted clip among the 10 nearest", "skin_tone": "right skin tone", "gender": "right gender"}
        splits = {"trained": "prompts it was trained on", "combinations": "unseen combinations of skin tone and person", "concepts": "concepts never seen"}
        found["emoji-t2v"] = [
            {"name": f"{splits[split]}: {name}", "value": round(rows["generated"][key], 3),
             "baseline": f"chance {rows['chance'][key]:.3g}, real clips through the autoencoder {rows['real_through_autoencoder'][key]:.3f}", "command": result["command"]}
            for split, rows in result["splits"].items() for key, name in names.items()
        ]
    if (path := common.RESULTS / "edit.json").is_file():
        result = json.loads(path.read_text())
        rows = {(row["clips shown"], row["split"]): row for row in result["rows"] if row["task"] == "all"}
        splits = {"pairs": "unseen edits", "wordings": "unseen wordings", "both": "unseen edits in unseen wordings"}
        names = {"right": "right edits", "outside": "error outside the edit, over the autoencoder's own"}
        others = {"SDEdit": next((shown for shown, _ in rows if shown.startswith("SDEdit")), None), "the source, copied": "the source, copied"}
        found["edit"] = [
            {"name": f"{splits[split]}: {name}", "value": round(rows[SHIPPED_EDITOR, split][key], 3), "command": result["command"],
             "baseline": "; ".join(f"{other} {rows[shown, split][key]:.3g}" for other, shown in others.items() if shown)}
            for split in splits for key, name in names.items() if (SHIPPED_EDITOR, split) in rows
        ]
    if (path := common.RESULTS / "audio.json").is_file():
        result = json.loads(path.read_text())
        notes, hits = result["notes"], result["hits"]
        told = {"instrument": "right instrument", "within_50_cents": "pitch within 50 cents", "cents": "median distance of the pitch in cents"}
        found["audio"] = [
            {"name": f"notes of unseen combinations: {name}", "value": round(notes["generated"][key], 3), "command": result["command"],
             "baseline": "; ".join(f"{what} {notes[what][key]:.3g}" for what in ("through the codec", "chance") if key in notes[what])}
            for key, name in told.items()
        ] + [{"name": "hits at the turns of unseen animations: onset error in ms", "value": round(hits["generated"]["own_ms"], 1), "command": result["command"],
              "baseline": f"other animations' turns {hits['generated']['shuffled_ms']:.3g}, real sound {hits['real']['own_ms']:.3g}"}]  # fmt: skip
    return found


def main() -> None:
    notes = {path.stem: path.read_text().strip() for path in (HERE / "notes").glob("*.md")}
    page, missing = [TOP], []
    for title, names in (("What was learnt", LEARNT), ("Speed and memory", SPEED)):
        page.append(f"## {title}")
        for name in names:
            if (common.RESULTS / f"{name}.json").is_file():
                page.append(section(name, notes))
            else:
                missing.append(name)
                if name in notes:
                    page.append(f"### {says(name)}\n\n{notes[name]}")
    for name, figures in evaluations().items():
        (common.RESULTS / f"card-{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    PAGE.write_text("\n\n".join(page) + "\n")
    print(PAGE, *(f"no result: {name}" for name in missing), sep="\n")


if __name__ == "__main__":
    main()
