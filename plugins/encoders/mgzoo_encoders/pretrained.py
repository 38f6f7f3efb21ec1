"""Public weights in transformers format: found, compared with the recipe's sizes, loaded from safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from mgzoo.parts import Cut
from mgzoo.spec import MgzooError

RANDOM = "random"


def locate(source: str) -> tuple[str, dict]:
    """A folder, or a hub's ``org/name[@revision]`` -> (what transformers opens, its keyword arguments)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder), {"trust_remote_code": False}
    if source.startswith(("/", "./", "../", "~")):
        raise MgzooError(f"no such folder: {source}", remedy="set the encoder's `source` to a folder or to org/name[@revision]")
    repository, _, revision = source.partition("@")
    return repository, {"trust_remote_code": False, "revision": revision or "main"}


def build(model_class: type, wanted, compared: dict[str, str], source: str, component: str) -> nn.Module:
    """A model of `model_class`: of random weights where source is ``random`` or on the meta device, else loaded.

    wanted: the transformers config that the recipe's sizes give. compared: recipe field -> attribute of that config, which
    must agree with the source's. Dropout is off, so that training needs no noise of its own.
    Raises MgzooError where there is no source, it cannot be read, its sizes differ, or it lacks a weight.
    """
    if source == RANDOM or torch.get_default_device().type == "meta":
        return model_class(wanted)
    if not source:
        raise MgzooError(f"{component} has no weights", remedy="set the encoder's config.source to a folder or to org/name[@revision]")
    place, options = locate(source)
    found = opened(type(wanted), place, source, component, **options)
    differing = {field: getattr(found, name) for field, name in compared.items() if getattr(found, name) != getattr(wanted, name)}
    if differing:
        raise MgzooError(
            f"{component}: the sizes of {source} differ from the recipe ({', '.join(differing)})",
            remedy="set " + ", ".join(f"{field}: {value}" for field, value in differing.items()) + " in the encoder's config",
        )
    model, report = opened(
        model_class,
        place,
        source,
        component,
        config=dropless(found),
        use_safetensors=True,
        dtype=torch.get_default_dtype(),
        output_loading_info=True,
        **options,
    )
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise MgzooError(
            f"{component}: {len(lacking)} weights missing in {source}, the first {lacking[0]}",
            remedy="the source must contain the complete encoder in transformers format",
        )
    return model


def opened(what: type, place: str, source: str, component: str, **options):
    """``what.from_pretrained(place)``; what the files are to blame for becomes a MgzooError."""
    try:
        return what.from_pretrained(place, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MgzooError(
            f"{component}: {source} cannot be read: {reason.strip()}",
            remedy="the source must contain config.json, model.safetensors and the tokenizer's files in transformers format",
        ) from error


def dropless(config):
    """The transformers config with its dropouts at 0."""
    for name in ("dropout_rate", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


class Tokenizer:
    """Texts -> padded ids and mask. The source's own tokenizer, or bytes (ByT5's, which needs no file)."""

    def __init__(self, source: str, component: str, max_len: int):
        import transformers

        self.max_len, self.unit = max_len, "bytes" if source == RANDOM else "tokens"
        if source == RANDOM:
            self.tokenizer = transformers.ByT5Tokenizer()
            return
        place, options = locate(source)
        self.tokenizer = opened(transformers.AutoTokenizer, place, source, component, **options)

    def __call__(self, texts: Sequence[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids (B, L) and mask (B, L) bool, L the longest of the batch and at most max_len."""
        assert not isinstance(texts, str), "give a list of texts"
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        batch = self.tokenizer(clean, padding="longest", truncation=True, max_length=self.max_len, return_tensors="pt")
        return batch["input_ids"].to(device), batch["attention_mask"].to(device, torch.bool)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        """What lies beyond max_len of each text, or None. Marks that the tokenizer adds are not counted."""
        found, marks = [], self.tokenizer.num_special_tokens_to_add()
        for text in texts:
            clean = text.encode("utf-8", "replace").decode("utf-8")
            ids = self.tokenizer(clean, add_special_tokens=False, verbose=False)["input_ids"]
            read, whole = max(0, self.max_len - marks), len(ids)
            dropped = ids[: whole - read] if self.tokenizer.truncation_side == "left" else ids[read:]
            rest = self.tokenizer.decode(dropped, skip_special_tokens=True) if whole > read else ""
            found.append(Cut(read=read, whole=whole, unit=self.unit, rest=rest) if whole > read else None)
        return found
