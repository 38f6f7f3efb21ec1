"""Which parts are trained and which are frozen: the module that the engine wraps, the precision of trained and frozen weights, and the way
of trained weights back into a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mgzoo.model.lora import adapter_state_dict, seed_dropout, set_train_mode, trainable_tree
from mgzoo.parts import Example
from mgzoo.train.distributed import RankInfo


def module_name(name: str) -> str:
    """A part's name as a module's name, which may hold neither a dot nor (for the universal format) a slash."""
    return name.replace(".", ":")


class Trainable(nn.Module):
    """The module that the engine wraps: the trained parts (of a part with an adapter, the adapter), with the task's loss, or its held-out
    measures, as forward."""

    def __init__(self, model, names: Sequence[str]):
        super().__init__()
        for name in names:
            self.add_module(module_name(name), trainable_tree(model.part(name)))
        self._model = (model,)  # a tuple, so that the frozen parts are not registered
        self._names = tuple(names)

    def forward(self, example: Example, generator: torch.Generator, measure: bool = False):
        """(total, terms) of the task's loss; with measure, the task's named held-out measures."""
        (model,) = self._model
        if measure:
            return dict(model.task.validate(model, example, generator))
        for name in self._names:
            seed_dropout(model.part(name), generator.initial_seed())
        loss = model.task.loss(model, example, generator)
        return loss.total, dict(loss.terms)


class PartWeights:
    """Sets parts to be trained or frozen.

    Trained weights are in float32 (the engine casts them and keeps float32 master weights). Frozen weights, of a part or of the base
    under an adapter, are in the compute precision; their float32 values are kept on the host and restored later.
    """

    def __init__(self, model: nn.Module, rank_info: RankInfo, ever_trained: Sequence[str]):
        self.model, self.rank_info, self.ever_trained = model, rank_info, set(ever_trained)
        self.trainable = {name: {key: p.requires_grad for key, p in model.part(name).named_parameters()} for name in model.part_names()}
        self.unrounded: dict[str, dict[str, Tensor]] = {}

    def set_trainable(self, names: Sequence[str], dtype: torch.dtype) -> None:
        """Make the parts `names` trainable, and freeze all others in `dtype`. Buffers keep their precision."""
        for name in self.model.part_names():
            part, learns = self.model.part(name), {key: name in names and mine for key, mine in self.trainable[name].items()}
            set_train_mode(part, name in names)
            if name in names:
                self.restore_float32(name)
            if dtype != torch.float32 and name not in self.unrounded and not all(learns.values()):
                # Rank 0's are saved; the others need theirs where they may learn in another stage.
                mine = {key for key in learns if not learns[key] and (self.rank_info.is_first or (name in self.ever_trained and self.trainable[name][key]))}
                exact = {key: p.detach().cpu().clone() for key, p in part.named_parameters() if key in mine and p.dtype == torch.float32}
                self.unrounded[name] = exact
            for key, p in part.named_parameters():
                p.requires_grad_(learns[key])
                if p.is_floating_point():
                    p.data = p.data.to(self.rank_info.device, torch.float32 if learns[key] else dtype)
            part.to(self.rank_info.device)

    def restore_float32(self, name: str) -> None:
        """Undo the rounding of a frozen part."""
        for key, value in self.unrounded.pop(name, {}).items():
            p = self.model.part(name).get_parameter(key)
            p.data = value.to(p.device)

    def state_dict(self, name: str) -> dict[str, Tensor]:
        """A part's state on the host, without the rounding of a frozen part."""
        state = self.model.part(name).state_dict()
        return {key: self.unrounded.get(name, {}).get(key, value).detach().cpu().contiguous() for key, value in state.items()}

    def trained_state_dict(self, name: str) -> dict[str, Tensor]:
        """The part of `state_dict` that training may have changed: all of it, or the adapter."""
        own = adapter_state_dict(self.model.part(name))
        return {key: value for key, value in self.state_dict(name).items() if not own or key in own}


def load_trained(part: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Copy trained weights, named as in `Trainable`, into part `name`."""
    prefix = module_name(name) + "."
    with torch.no_grad():
        for key, p in part.named_parameters():
            if prefix + key in weights:
                p.copy_(weights[prefix + key])
