"""Which of several daemons watches a database: rendezvous hashing of its name.

Each shard has a weight for each name, and the heaviest takes it. So a further shard takes its share
and moves nothing between the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

_MOST_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several daemons that share the databases of one configuration.

    Attributes:
        index: From 0, as a StatefulSet counts its pods.
        count: Of all shards.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `2/8` means.

        Raises:
            ValueError: It is none; the message says what was expected.
        """
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not shard.index < shard.count <= _MOST_SHARDS:
            raise ValueError(
                f"{text!r} is not a shard, expected its number from 0 and how many there are, "
                f"such as 2/8 for the third of eight; at most {_MOST_SHARDS}"
            )
        return shard

    def takes(self, name: str) -> bool:
        """Return whether the database of that name is this shard's."""
        return max(range(self.count), key=lambda index: _weight(index, name)) == self.index


def _weight(index: int, name: str) -> bytes:
    return blake2b(f"{index}/{name}".encode(), digest_size=8).digest()
