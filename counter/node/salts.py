"""The keys of the hashes of viewers: one a day, so nobody can be followed from day to day."""

import secrets
from collections.abc import Mapping
from hashlib import blake2b

from counter.store.contract import TRACELESS

DAY = 86_400
"""Seconds."""
SALT = TRACELESS
"""How the name of a fact begins that is the key of a day, where no secret makes it."""


class Salts:
    """The key of each day: out of the cluster's secret, or random on a node that is alone."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret and blake2b(secret.encode()).digest()
        self._keys: dict[int, bytes] = {}
        self._keyed: dict[int, blake2b] = {}
        """The same, ready to hash: that takes two thirds of the time."""

    def hash(self, day: int, text: bytes) -> int:
        """The keyed hash of a text on a day, 64 bits."""
        keyed = self._keyed.get(day)
        if keyed is None:
            if len(self._keyed) > 3:
                self._keyed.clear()
            keyed = self._keyed[day] = blake2b(key=self.key(day), digest_size=8)
        hashed = keyed.copy()
        hashed.update(text)
        return int.from_bytes(hashed.digest())

    def key(self, day: int) -> bytes:
        """The key of a day of UTC since 1970."""
        key = self._keys.get(day)
        if key is None:
            if self._secret:
                key = blake2b(b"viewers %d" % day, key=self._secret, digest_size=32).digest()
            else:
                key = secrets.token_bytes(32)
            self._keys[day] = key
            for old in [known for known in self._keys if abs(known - day) > 1]:
                del self._keys[old]
        return key

    def opened(self, facts: Mapping[str, str]) -> None:
        """Take over the random keys that the store holds, so a restart changes no viewer."""
        for name, text in facts.items():
            day = name.removeprefix(SALT)
            if name.startswith(SALT) and day.isdigit() and len(text) == 64:
                self._keys[int(day)] = bytes.fromhex(text)
        self._keyed.clear()

    def facts(self, day: int) -> dict[str, str]:
        """What the store is to keep of keys: today's, unless the secret makes it."""
        return {} if self._secret else {f"{SALT}{day}": self.key(day).hex()}
