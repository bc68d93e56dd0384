"""The hash of a video: what its counts are multiplied by in content hashes, and its bucket.

Pure: no I/O.
"""

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct

PRIME = 2**61 - 1
"""The modulus of content hashes."""
BUCKETS = 2**14
"""The most buckets: a repair of a million videos then tells some sixty from the others."""
_DIGEST = Struct(">QH")


def hash_of(video: str) -> tuple[int, int]:
    """The hash of a video, below `PRIME`, and its bucket, below `BUCKETS`."""
    digest = blake2b(video.encode(), digest_size=10).digest()
    of_count, of_bucket = _DIGEST.unpack(digest)
    return of_count % PRIME, of_bucket % BUCKETS


def digests_of(videos: Iterable[str]) -> bytes:
    """The same of many, not reduced yet: eight and two bytes of each, the highest first."""
    return b"".join([blake2b(video.encode(), digest_size=10).digest() for video in videos])
