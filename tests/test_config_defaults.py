"""What a config answers by default, and how it says what is wrong with it."""

from dataclasses import dataclass

import pytest

from mgzoo.discovery import discover
from mgzoo.spec import DataConfig, LatentSpec, TaskConfig, option, require, require_at_least


@dataclass(frozen=True, kw_only=True)
class Stills(DataConfig):
    frames: int = option(1, "frames of a clip")
    height: int = option(8, "pixels")
    width: int = option(16, "pixels")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width")
        require({f"width must be even, not {self.width}": self.width % 2 == 0, f"height must be even, not {self.height}": self.height % 2 == 0})


def test_a_task_generates_latents_from_texts_unless_it_says_otherwise():
    config = TaskConfig.tiny()
    assert config.required_parts() == ("autoencoder", "encoder", "backbone", "objective", "sampler") and config.modalities() == ("text",)
    assert (config.conditions(), config.concat_channels(LatentSpec(space="x", channels=4, stride=(8,))), config.num_parameters()) == ((), 0, 0)
    assert not hasattr(config, "sizes") and not hasattr(config, "layout")  # a task need not have either


def test_data_gives_what_its_sizes_are():
    assert (Stills().sizes(), Stills().modalities(), Stills().num_parameters()) == (((1, 8, 16),), ("image", "text"), 0)
    assert Stills.tiny(frames=4).modalities() == ("video", "text")
    mixed = type("Mixed", (DataConfig,), {"sizes": lambda self: ((1, 8, 8), (4, 8, 8))})
    assert mixed().modalities() == ("video", "image", "text")


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError) as error:
        Stills(frames=0, height=-2)
    assert str(error.value).splitlines() == ["frames must be at least 1, not 0", "height must be at least 1, not -2"]
    with pytest.raises(ValueError) as error:
        Stills(height=3, width=5)
    assert str(error.value).splitlines() == ["width must be even, not 5", "height must be even, not 3"]


@pytest.mark.parametrize("kind, base", [("task", TaskConfig), ("data", DataConfig)])
def test_the_bases_ask_nothing_of_those_who_answer_for_themselves(kind, base):
    """Every method of a base is one that a config may have by itself: nothing looks at the class."""
    configs = [discover().config_class(component.id) for component in discover().kind(kind)]
    assert configs and all(callable(getattr(config, name, None)) for config in configs for name in vars(base) if not name.startswith("_"))
