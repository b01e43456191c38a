from random import Random

from metering.shards import MAX_SHARDS, another_shard


def test_a_conflict_leads_to_another_shard_and_more_conflicts_to_more_of_them() -> None:
    random = Random(1)
    assert {another_shard(1, 0, random) for _ in range(200)} == {1}
    assert {another_shard(2, 1, random) for _ in range(200)} == {0, 2, 3}
    assert {another_shard(50, 3, random) for _ in range(900)} == set(range(MAX_SHARDS)) - {3}
