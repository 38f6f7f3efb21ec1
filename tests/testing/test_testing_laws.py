"""For every law of the conformance kit a part that breaks exactly that law and no other; and parts that break none."""

import dataclasses
import unittest
from pathlib import Path

import pytest

from mgzoo.spec import KINDS
from mgzoo.testing import Subject, laws
from mgzoo.testing.reference import COMPONENTS

HERE = Path(__file__).parent

BAD = {
    # law: (kind, what is bad: a config, a part, or fields of the component)
    "light": ("sampler", "bad_heavy:HeavyConfig"),
    "named": ("sampler", {"id": "elsewhere.sampler.v1"}),
    "typed": ("sampler", "bad_configs:SilentField"),
    "answers": ("filter", "bad_configs:KeepsPerhaps"),
    "small": ("encoder", "bad_configs:Huge"),
    "counted": ("encoder", "bad_configs:Miscounted"),
    "same_seed_same_bits": ("encoder", "bad_parts:CountsItsCalls"),
    "saved_and_loaded": ("encoder", "bad_parts:Forgets"),
    "in_either_precision": ("encoder", "bad_parts:OnlyFloat32"),
    "opens_no_socket": ("objective", "bad_parts:Telephones"),
    "leaves_no_files": ("metric", "bad_parts:KeepsADiary"),
    "draws_from_its_generator": ("sampler", "bad_parts:DrawsElsewhere"),
    "inputs_are_left_unchanged": ("autoencoder", "bad_parts:ClampsItsInput"),
    "another_seed_gives_another_result": ("sampler", "bad_parts:AlwaysTheSameNoise"),
    "gradient_reaches_what_is_trained": ("encoder", "bad_parts:CarriesASpare", "bad_configs:OneMore"),
    "loss_falls_on_one_batch": ("encoder", "bad_parts:Unlearns"),
    "trained_parts_and_no_others": ("task", "bad_parts:NamesTooFew"),
    "trains_in_bf16": ("backbone", "bad_parts:CastsNothing"),
    "others_change_nothing_in_training": ("backbone", "bad_parts:NormalisesTheBatch"),
    "latents_are_as_specified": ("autoencoder", "bad_parts:KeepsThePadding"),
    "a_sample_is_coded_alone": ("autoencoder", "bad_parts:LooksAtOthers"),
    "media_come_back": ("autoencoder", "bad_parts:Backwards"),
    "tiled_as_untiled": ("autoencoder", "bad_parts:CountsTheTile"),
    "conditions_are_as_specified": ("encoder", "bad_parts:KnowsItsName"),
    "padding_changes_nothing": ("encoder", "bad_parts:SeesPadding"),
    "inputs_are_told_apart": ("encoder", "bad_parts:OnlyCounts"),
    "an_unread_end_is_said": ("encoder", "bad_parts:DropsTheEnd"),
    "predictions_are_as_specified": ("backbone", "bad_parts:StacksLists"),
    "a_sample_is_predicted_alone": ("backbone", "bad_parts:AveragesTheBatch"),
    "mixed_sizes_as_alone": ("backbone", "bad_parts:TellsAllTheFirst"),
    "latents_time_and_conditions_are_heard": ("backbone", "bad_parts:Deaf"),
    "what_is_masked_is_not_heard": ("backbone", "bad_parts:CountsPadding"),
    "fed_channels_start_unheard": ("backbone", "bad_parts:HearsFeeds"),
    "pairs_are_as_specified": ("objective", "bad_parts:Doubles"),
    "time_runs_from_noise_to_data": ("objective", "bad_parts:NeverClean"),
    "loss_is_least_at_the_target": ("objective", "bad_parts:LeavesOneOut"),
    "sampling_gives_the_target_back": ("objective", "bad_parts:PointsAway"),
    "samples_are_as_specified": ("sampler", "bad_parts:CountsFromZero"),
    "guidance_of_equal_branches_changes_nothing": ("sampler", "bad_parts:Overdoes"),
    "guidance_is_linear": ("sampler", "bad_parts:BendsGuidance"),
    "a_sample_is_sampled_alone": ("sampler", "bad_parts:CentresTheBatch"),
    "a_perfect_model_is_sampled_truly": ("sampler", "bad_parts:StopsShort"),
    "examples_are_as_specified": ("task", "bad_parts:HoldsOn"),
    "feeds_agree_with_prepare": ("task", "bad_parts:FeedsInSecret"),
    "validation_can_be_compared": ("task", "bad_parts:ValidatesNothing"),
    "requests_are_answered": ("task", "bad_parts:AnswersInFloats"),
    "sizes_are_heard": ("task", "bad_parts:HasOneSize"),
    "options_are_taken": ("task", "bad_configs:Promises"),
    "clips_are_as_specified": ("data", "bad_configs:OtherSizes"),
    "held_out_clips_stay_out": ("data", "bad_parts:PeeksAtHeldOut"),
    "a_stream_resumes": ("data", "bad_parts:StartsAnew"),
    "ranks_share_the_run": ("data", "bad_parts:GivesAllToAll"),
    "scores_are_finite": ("filter", "bad_parts:ScoresNothing"),
    "scores_do_not_depend_on_the_batch": ("metric", "bad_parts:GradesOnACurve"),
    "scores_tell_apart": ("filter", "bad_parts:LikesEverything"),
}


MORE = [
    # law, kind, what is bad: other faults that a law must find
    ("draws_from_its_generator", "encoder", "bad_parts:Jitters"),
    ("draws_from_its_generator", "sampler", "bad_parts:DrawsFromNumpy"),
    ("draws_from_its_generator", "sampler", "bad_parts:SeedsTheWorld"),
    ("inputs_are_left_unchanged", "task", "bad_parts:WritesIntoTheExample"),
    ("another_seed_gives_another_result", "task", "bad_parts:ForgetsTheSeed"),
    ("another_seed_gives_another_result", "data", "bad_parts:OneOrderForAll"),
    ("trains_in_bf16", "encoder", "bad_parts:BufferMeetsWeight"),
    ("others_change_nothing_in_training", "objective", "bad_parts:WeighsByTheBatch"),
    ("options_are_taken", "task", "bad_parts:RefusesAChoice", "bad_configs:OffersStyles"),
]


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path):
    """The bad parts can be imported, here and in the kit's other processes, and write into a folder of their own."""
    monkeypatch.syspath_prepend(HERE / "bad")
    monkeypatch.chdir(tmp_path)


def subject(kind: str, *changes) -> Subject:
    fields = {"id": f"bad.{kind}.v1"}
    for change in changes:
        fields |= change if isinstance(change, dict) else {"config" if "onfigs:" in change or "heavy:" in change else "target": change}
    return Subject(component=dataclasses.replace(COMPONENTS[kind], **fields), namespace="bad")


def broken(subject: Subject) -> dict[str, str]:
    """The laws that a part breaks, and what is said of each."""
    found = {}
    for law in laws(subject.kind):
        try:
            law(subject)
        except unittest.SkipTest as reason:
            found[law.name] = f"skipped: {reason}"
        except Exception as error:
            found[law.name] = f"{type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_kits_own_parts_break_no_law(kind):
    assert broken(Subject(component=COMPONENTS[kind], namespace="reference")) == {}


@pytest.mark.parametrize("kind, changes", [
    ("backbone", ["good_configs:SoundMixing"]),
    ("autoencoder", ["good_configs:SoundBlocksConfig", "good_parts:SoundBlocks"]),
    ("encoder", ["mgzoo.testing.reference_configs:ReferenceImageEncoderConfig", "mgzoo.testing.reference:ReferenceImageEncoder"]),
    ("encoder", ["good_configs:ClipColours", "mgzoo.testing.reference:ReferenceImageEncoder"]),
], ids=lambda value: value if isinstance(value, str) else value[0].rpartition(":")[2])
def test_parts_of_other_media_break_no_law(kind, changes):
    assert broken(subject(kind, *changes)) == {}


def test_an_encoder_that_calls_what_it_reads_unread_breaks_a_law():
    assert broken(subject("encoder", "bad_parts:CriesWolf")).keys() == {"an_unread_end_is_said"}


@pytest.mark.parametrize("law", BAD)
def test_a_bad_part_breaks_exactly_one_law(law):
    found = broken(subject(*BAD[law]))
    assert list(found) == [law], found
    assert found[law].startswith(("LawViolation: ", "RuntimeError: ")), found[law]


@pytest.mark.parametrize("law, kind, changes", [(law, kind, changes) for law, kind, *changes in MORE], ids=lambda value: value[0].rpartition(":")[2] if isinstance(value, list) else value)
def test_other_bad_parts_break_that_law_too(law, kind, changes):
    found = broken(subject(kind, *changes))
    assert list(found) == [law] and found[law].startswith("LawViolation: "), found


def test_every_law_has_a_bad_part_and_a_sentence():
    assert [law.name for law in laws()] == list(BAD)
    assert all(law.text.endswith(".") and "\n" not in law.text for law in laws())
