"""Parameters without memory: shapes are told, what is computed when a part is built is real, and torch's compiler stays away."""

import subprocess
import sys

import torch
from torch import nn

from mgzoo.model.skip_init import init_empty_weights


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.tied = self.layer.weight
        self.table = nn.Buffer(torch.arange(4.0).cos(), persistent=False)
        nn.init.trunc_normal_(self.layer.weight, std=0.02)
        with torch.no_grad():
            self.layer.weight[:, 1:].zero_()


def test_parameters_have_no_memory_and_buffers_do():
    with init_empty_weights():
        part = Part()
    assert all(parameter.is_meta and parameter.requires_grad for parameter in part.parameters()) and part.tied is part.layer.weight
    assert torch.equal(part.table, torch.arange(4.0).cos()) and part.layer.weight.shape == (4, 3)
    assert not any(parameter.is_meta for parameter in Part().parameters())


def test_a_filled_model_is_like_one_that_was_built_and_loaded():
    made = Part()
    with init_empty_weights():
        part = Part()
    part.load_state_dict(made.state_dict(), assign=True)
    assert torch.equal(part.norm(part.layer(torch.ones(3))), made.norm(made.layer(torch.ones(3))))


def test_neither_building_nor_filling_imports_torchs_compiler(sharded):
    code = f"import sys, mgzoo\nmgzoo.load({str(sharded)!r})\nprint({{'torch._dynamo', 'sympy'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
