"""Which shard of a counter a request adds to.

A counter is a set of items whose sum is the total. A calm one stays in shard 0, so that reading it reads one item;
every conflict on it doubles the number of shards among which the request chooses.
"""

from random import Random

# All shards of a counter share one partition, which serves about 1,000 write units a second; a transactional write
# costs two. More shards than this would meet that ceiling and cost every reader.
MAX_SHARDS = 8


def another_shard(conflicts: int, held: int, random: Random) -> int:
    """A shard other than `held`, after the request's `conflicts`-th conflict (from 1) on this counter."""
    width = min(MAX_SHARDS, 2 ** min(conflicts, 16))
    return random.choice([shard for shard in range(width) if shard != held])
