"""Basic authentication against bcrypt hashes, without a bcrypt check for every scrape.

A check takes tens of milliseconds by design and runs in its own pool. Correct credentials are
remembered by a keyed digest: memory holds neither the password nor anything to guess it from
offline. Wrong ones cost a check each; only a limited number may wait, in all and per address.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping

import bcrypt

from exporter.server.message import BUSY, Refused
from exporter.server.pool import BoundedPool

_REMEMBERED = 256
_CHECKS_PER_PEER = 8
# bcrypt reads 72 bytes; the library refuses more, where htpasswd cuts them off.
_BCRYPT_BYTES = 72


class Authenticator:
    """Checks `Authorization` headers against one set of users; for the event loop only.

    A reload creates a new one, which has forgotten all remembered credentials.

    Args:
        users: User name to bcrypt hash; at least one.
        pool: Where bcrypt runs; used after this object as well.
    """

    def __init__(self, users: Mapping[str, bytes], pool: BoundedPool) -> None:
        self._users = users
        self._pool = pool
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._peers: Counter[str] = Counter()
        # For unknown users: of no known password, at the highest cost of any user.
        self._dummy = b"$2b$%b$%b" % (max(hash_[4:6] for hash_ in users.values()), b"." * 53)

    async def check(self, authorization: str, peer: str) -> bool:
        """Return whether the credentials are right; unknown users take as long as known ones.

        Raises:
            Refused: Too many checks wait, in all or from this peer.
        """
        digest = hmac.digest(self._key, authorization.encode(), "sha256")
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
            return True
        credentials = _decode_basic(authorization)
        if credentials is None:
            return False
        if digest not in self._checks:
            if self._peers[peer] >= _CHECKS_PER_PEER:
                raise Refused(BUSY)
            check = asyncio.create_task(self._check(digest, *credentials, peer))
            self._peers[peer] += 1
            self._checks[digest] = check
        # The same credentials on several connections at once are checked once.
        return await asyncio.shield(self._checks[digest])

    async def _check(self, digest: bytes, user: str, password: bytes, peer: str) -> bool:
        try:
            matches = await self._pool.run(
                lambda: _matches(password, self._users.get(user, self._dummy))
            )
        finally:
            del self._checks[digest]
            self._peers -= Counter([peer])  # keeps positive counts only
        if not matches or user not in self._users:
            return False
        self._remembered[digest] = None
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return True


def _decode_basic(authorization: str) -> tuple[str, bytes] | None:
    """Return user and password, None if the header is not well-formed basic authentication."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon and scheme.lower() == "basic" else None
    except ValueError:
        return None


def _matches(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], stored)
    except ValueError:
        return False
