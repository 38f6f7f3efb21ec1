"""The order: the same as ever, and the same for any number of ranks."""

import itertools
import json

from blake3 import blake3

from mgzoo.data.sampler import EpochOrder, Stream, derived_seed


def test_groups_come_in_the_order_that_they_always_came_in():
    """Taken from `video.clips.v1` before the order had a place of its own."""
    everything = list(range(0, 60, 2))
    groups = [[i for i in everything if i % 3 == k] for k in range(3)]
    groups[0] += groups[2][:4]
    order = EpochOrder(everything, lambda epoch: derived_seed(f"clips 5 {epoch}"), [*(groups[:2]), groups[2][4:]])
    for size, start, frozen in ((4, 0, "c83958e4c6316b40"), (4, 9, "d27972af29193275"), (7, 31, "94f78fa4d11adcb1")):
        drawn = list(itertools.islice(order.micro_batches(size, start), 5))
        assert blake3(json.dumps(drawn).encode()).hexdigest()[:16] == frozen


class Numbers(Stream):
    def __init__(self, rank=0, world=1):
        super().__init__(rank, world)
        self.order = EpochOrder(range(11), lambda epoch: derived_seed(f"numbers {epoch}"))

    def micro_batches(self, size, start):
        return self.order.micro_batches(size, start)

    def clips(self, drawn):
        return drawn

    def epoch_length(self):
        return 11


def test_a_stream_goes_on_for_any_number_of_ranks():
    alone = list(itertools.islice(Numbers().batches(3), 30))
    for world, again in ((1, 3), (2, 3), (3, 2), (4, 1)):
        states = []
        for rank in range(world):
            stream = Numbers(rank, world)
            assert list(itertools.islice(stream.batches(3), 2)) == alone[rank::world][:2]
            states.append(stream.state_dict())
        assert all(state == {"epoch": 2 * world * 3 // 11, "position": 2 * world, "size": 3} for state in states)
        for rank in range(again):
            stream = Numbers(rank, again)
            stream.load_state_dict(states[0])
            assert list(itertools.islice(stream.batches(3), 2)) == alone[2 * world + rank :: again][:2]


def test_without_a_seed_the_order_stays():
    order = EpochOrder([5, 3, 4], None)
    assert list(itertools.islice(order.micro_batches(2), 3)) == [[(5, 0), (3, 0)], [(4, 0), (5, 1)], [(3, 1), (4, 1)]]
