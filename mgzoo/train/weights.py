"""The weights of a model's parts while it trains: which of them learn, in which precision, and how they get back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mgzoo.model.lora import adapter_state_dict, set_train_mode
from mgzoo.train import zero
from mgzoo.train.ranks import Place


class Weights:
    """Sets parts to learn or to rest.

    What learns is in float32 (the engine casts it and keeps float32 masters). What rests, be it a part or the base under an
    adapter, is in the compute precision; what the cast rounds away is kept on the host and given back.
    """

    def __init__(self, model: nn.Module, place: Place, ever: Sequence[str]):
        self.model, self.place, self.ever = model, place, set(ever)
        self.learns = {name: {key: p.requires_grad for key, p in model.part(name).named_parameters()} for name in model.part_names()}
        self.unrounded: dict[str, dict[str, Tensor]] = {}

    def set(self, names: Sequence[str], dtype: torch.dtype) -> None:
        """Let the parts `names` learn and all others rest in `dtype`. Buffers keep their precision."""
        for name in self.model.part_names():
            part, learns = self.model.part(name), {key: name in names and mine for key, mine in self.learns[name].items()}
            set_train_mode(part, name in names)
            if name in names:
                self.give_back(name)
            if dtype != torch.float32 and name not in self.unrounded and not all(learns.values()):
                # Rank 0's are saved; the others need theirs where they may learn in another stage.
                mine = {key for key in learns if not learns[key] and (self.place.first or (name in self.ever and self.learns[name][key]))}
                exact = {key: p.detach().cpu().clone() for key, p in part.named_parameters() if key in mine and p.dtype == torch.float32}
                self.unrounded[name] = exact
            for key, p in part.named_parameters():
                p.requires_grad_(learns[key])
                if p.is_floating_point():
                    p.data = p.data.to(self.place.device, torch.float32 if learns[key] else dtype)
            part.to(self.place.device)

    def give_back(self, name: str) -> None:
        """Undo the rounding of a part at rest."""
        for key, value in self.unrounded.pop(name, {}).items():
            p = self.model.part(name).get_parameter(key)
            p.data = value.to(p.device)

    def state(self, name: str) -> dict[str, Tensor]:
        """A part's state on the host, without the rounding of a part at rest."""
        state = self.model.part(name).state_dict()
        return {key: self.unrounded.get(name, {}).get(key, value).detach().cpu().contiguous() for key, value in state.items()}


    def trained(self, name: str) -> dict[str, Tensor]:
        """The part of `state` that training may have changed: all of it, or the adapter."""
        own = adapter_state_dict(self.model.part(name))
        return {key: value for key, value in self.state(name).items() if not own or key in own}


def fill(part: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Copy trained weights, named as in `zero.Trainable`, into part `name`."""
    prefix = zero.key(name) + "."
    with torch.no_grad():
        for key, p in part.named_parameters():
            if prefix + key in weights:
                p.copy_(weights[prefix + key])
