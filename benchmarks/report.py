"""Write docs/figures.md (conclusions), benchmarks/results/NAME.md (all figures) and the figures of the models' cards from the results.

    python benchmarks/report.py          after any of the other benchmarks; prints the names of missing results

The first paragraph of notes/NAME.md is the conclusion; the rest appears on the page with all figures. `summary_tables.py` defines the small tables.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path

import common
from summary_tables import QUALITY, SPEED, Summary

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "figures.md"
SHIPPED_EDITOR = "registry/edit"
TOP = """\
# Figures

Conclusions of the benchmarks, each with a small table. The linked pages have all figures, plots and details; `python benchmarks/report.py` writes all of these pages. Compare
ratios within a run: absolute times depend on the machine named on the linked page. The docstring of each script states what is measured and what is not.
"""


def question(name: str) -> str:
    """The first line of a benchmark's docstring, without importing the benchmark."""
    return (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or name).splitlines()[0]


def cell(value) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict) and {"median", "min", "max"} <= set(value):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    return str(value)


def markdown(rows: list[dict]) -> str:
    """Rows as Markdown tables; a new table begins when the columns change."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            lines += [""] * bool(lines) + ["| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
        lines.append("| " + " | ".join(cell(row[c]) for c in columns) + " |")
    return "\n".join(lines)


def commands(result: Mapping) -> str:
    """The command of a result, or the commands of its parts."""
    return ", ".join(f"`{one}`" for one in result["command"].split(" · "))


def small(summary: Summary, rows: list[dict]) -> str:
    """The rows and columns of a summary, with three digits."""
    rows = [{key.replace("_", " "): value for key, value in row.items()} for row in rows]
    shown = [{heading: brief(row.get(column, "–")) for column, heading in summary.columns.items()} for row in rows if summary.rows(row)]
    return markdown(shown)


def brief(value):
    """Floats with three digits, spreads as their median, no value as a dash."""
    if isinstance(value, Mapping) and "median" in value:
        value = value["median"]
    if isinstance(value, float) and value == value:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "–" if value is None else value


def conclusion(name: str, summary: Summary, note: str) -> str:
    """A section of docs/figures.md."""
    first = note.partition("\n\n")[0]
    if not (common.RESULTS / f"{name}.json").is_file():
        return "\n\n".join(filter(None, (f"### {summary.title}", first or f"No result yet. `python benchmarks/{name}.py`")))
    result = json.loads((common.RESULTS / f"{name}.json").read_text())
    link = f"[all figures](../benchmarks/results/{name}.md)"
    return "\n\n".join((f"### {summary.title}", first, small(summary, result["rows"]), f"{commands(result)} · {link}"))


def all_figures(name: str, summary: Summary, note: str) -> str:
    """benchmarks/results/NAME.md: the whole table, the note, the plot."""
    result = json.loads((common.RESULTS / f"{name}.json").read_text())
    machine = result["machine"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores ({', '.join(machine['extensions'])}), torch {machine['torch']}, {threads}"
    parts = [f"# {summary.title}", question(name), f"{commands(result)} · {where}", note, markdown(result["rows"])]
    if (common.RESULTS / f"{name}.png").is_file():
        parts.append(f"![{name}]({name}.png)")
    return "\n\n".join(filter(None, parts)) + "\n"


def evaluations() -> dict[str, list[dict]]:
    """Figures for the cards of the shipped models, by model: the input of scripts/ship.py --evaluation."""
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


def pages() -> dict[Path, str]:
    """Every page of figures and its text."""
    notes = {path.stem: path.read_text().strip() for path in (HERE / "notes").glob("*.md")}
    found, sections = {}, [TOP.strip()]
    for title, summaries in (("Quality", QUALITY), ("Speed and memory", SPEED)):
        sections.append(f"## {title}")
        for name, summary in summaries.items():
            sections.append(conclusion(name, summary, notes.get(name, "")))
            if (common.RESULTS / f"{name}.json").is_file():
                found[common.RESULTS / f"{name}.md"] = all_figures(name, summary, notes.get(name, ""))
    return {PAGE: "\n\n".join(sections) + "\n", **found}


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)
    for name, figures in evaluations().items():
        (common.RESULTS / f"card-{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    missing = [name for name in {**QUALITY, **SPEED} if not (common.RESULTS / f"{name}.json").is_file()]
    print(PAGE, *(f"no result: {name}" for name in missing), sep="\n")


if __name__ == "__main__":
    main()
