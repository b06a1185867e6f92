"""Basic authentication against bcrypt hashes, without paying bcrypt on every scrape.

A bcrypt check takes tens of milliseconds on purpose. It runs in a pool of its own, and a right
answer is remembered under a keyed digest of the credentials, so that neither the password nor
anything that could be guessed offline stays in memory. Wrong answers are not remembered: each
costs a check, of which only a bounded number may wait, fewer yet from one address.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping

import bcrypt

from exporter.server.pool import BoundedPool, PoolFull

_REMEMBERED = 256
_CHECKS_PER_PEER = 8
# bcrypt looks at 72 bytes; the library raises beyond that where htpasswd's users expect a cut.
_BCRYPT_BYTES = 72
# The digest under which an absent user is checked: well-formed, and of no known password.
_DUMMY_TAIL = b"." * 53


class Authenticator:
    """Says whether an `Authorization` header names a known user and the right password.

    One object belongs to one set of users: a reload makes a new one, and so forgets every
    remembered answer. To be used on the event loop alone.

    Args:
        users: User name to bcrypt hash; at least one.
        pool: Where bcrypt runs; outlives this object.
    """

    def __init__(self, users: Mapping[str, bytes], pool: BoundedPool) -> None:
        self._users = dict(users)
        self._pool = pool
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._peers: Counter[str] = Counter()
        # An unknown user costs what the dearest known one does: $2b$ and the highest cost.
        cost = max(digest[4:6] for digest in self._users.values())
        self._dummy = b"$2b$" + cost + b"$" + _DUMMY_TAIL

    def remembers(self, authorization: str) -> bool:
        """Say whether the very same credentials were found right before; costs microseconds."""
        digest = self._digest(authorization)
        if digest not in self._known:
            return False
        self._known.move_to_end(digest)
        return True

    async def check(self, authorization: str, peer: str) -> bool:
        """Say whether the credentials are right; a known and an unknown user take equally long.

        Raises:
            PoolFull: Too many checks wait, in all or from this peer.
        """
        credentials = _decode_basic(authorization)
        if credentials is None:
            return False
        digest = self._digest(authorization)
        task = self._checks.get(digest)
        if task is None:
            if self._peers[peer] >= _CHECKS_PER_PEER:
                raise PoolFull
            self._peers[peer] += 1
            check = self._check(digest, *credentials, peer)
            task = self._checks[digest] = asyncio.get_running_loop().create_task(check)
        # The same credentials from several connections at once are checked once.
        return await asyncio.shield(task)

    async def _check(self, digest: bytes, user: str, password: bytes, peer: str) -> bool:
        stored = self._users.get(user)
        try:
            right = await self._pool.run(lambda: _matches(password, stored or self._dummy))
        finally:
            del self._checks[digest]
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        if stored is None or not right:
            return False
        self._known[digest] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return True

    def _digest(self, authorization: str) -> bytes:
        return hmac.digest(self._key, authorization.encode(), "sha256")


def _decode_basic(authorization: str) -> tuple[str, bytes] | None:
    """Give user and password, or nothing where the header is not well-formed basic auth."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _matches(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], stored)
    except ValueError:
        return False
