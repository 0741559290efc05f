"""Who calls: the owner of a platform key and what the key may do.

A key's answer is kept for `REMEMBERED` seconds, unless the change feed says that the key or its user has changed. That
can't let a revoked or rotated key through: the reserve step looks again at each call, under lock. An unknown key is asked
for every time, so that a key inserted by the platform works at once, also in a column of the platform's own.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Coroutine, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from sqlalchemy import ColumnElement, Row, String, and_, false, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.groups import Group, fits
from app.catalog.guesses import Guesses
from app.database import Database
from app.errors import Unauthenticated, Unavailable
from app.ledger.accounts import ensure_account
from app.models import Account, KeyMeter, KeyPolicy, PlatformApiKey, RetiredSecret, SpendGroup, UserPolicy
from app.runtime.change_feed import caller_notices
from app.runtime.platform_keys import PlatformKeys
from app.runtime.tasks import OwnedTasks

REMEMBERED = 5.0
MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Caller:
    """`models`: names, and prefixes that end in `*`; None allows all. `allowed_ips` None allows all. `is_disabled`: the user is.
    `group`: the key's own, else its user's."""

    user_id: str
    key_id: int
    scope: str
    models: tuple[str, ...] | None
    allowed_ips: tuple[IPv4Network | IPv6Network, ...] | None
    is_disabled: bool
    key_hash: str
    group: Group | None = None

    def may_use(self, model: str) -> bool:
        if self.group is not None and not self.group.may_use(model):
            return False
        return self.models is None or any(fits(model, allowed) for allowed in self.models)

    def may_come_from(self, address: str | None) -> bool:
        if self.allowed_ips is None:
            return True
        try:
            parsed = ip_address(address or "")
        except ValueError:
            return False
        return any(parsed in network for network in self.allowed_ips)


class Callers:
    def __init__(
        self,
        database: Database,
        tasks: OwnedTasks,
        *,
        default_credit: Decimal,
        longest_wait: float,
        guesses: Guesses,
        platform_keys: PlatformKeys | None = None,
    ) -> None:
        self._database = database
        self._platform_keys = platform_keys
        self._tasks = tasks
        self._default_credit = default_credit
        self._longest_wait = longest_wait
        self._guesses = guesses
        self._right: OrderedDict[bytes, None] = OrderedDict()  # keys that were right the last time they were asked for
        self._asking: dict[bytes, asyncio.Future[Caller]] = {}
        self._known: OrderedDict[bytes, tuple[float, Caller, tuple[str, str]]] = OrderedDict()

    def find(self, token: str, address: str | None) -> Coroutine[Any, Any, Caller]:
        """Raises `Unauthenticated` for a key that is unknown, disabled or expired, `Unavailable` where that can't be told in
        time. `address`: where it comes from; raises `LimitExceeded` if too many wrong ones did, for a key that isn't known."""
        return self.find_hashed(hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest(), address)

    async def find_hashed(self, digest: bytes, address: str | None) -> Caller:
        """By the key's SHA-256, as sessions of browsers have it."""
        known = self._known.get(digest)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        if digest not in self._right:
            self._guesses.check(address)
        answer = self._asking.get(digest)
        if answer is None:
            answer = self._asking[digest] = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._ask(digest, answer), name="key lookup")
        if not (await asyncio.wait({answer}, timeout=self._longest_wait))[0]:
            raise Unavailable("Your key can't be checked at the moment. Try again shortly.", code="database_unavailable")
        try:
            return answer.result()
        except Unauthenticated:
            self._right.pop(digest, None)
            self._guesses.wrong(address)
            raise

    async def _ask(self, digest: bytes, answer: asyncio.Future[Caller]) -> None:
        """Many calls may come with one key at once: all wait for one look into the database. None of them owns it: a
        connection that hangs takes longer to be given up than a caller waits."""
        try:
            async with self._database.transaction() as session:
                caller = await self._look_up(session, digest.hex())
        except Exception as error:
            answer.set_exception(error)
            answer.exception()  # marks it as seen: all who asked may have left
        else:
            if self._asking.get(digest) is answer:  # else what was read may be older than what `forget` was told of
                self._remember(digest, caller)
            answer.set_result(caller)
        finally:
            if self._asking.get(digest) is answer:
                del self._asking[digest]

    def _remember(self, digest: bytes, caller: Caller) -> None:
        notices = caller_notices(key_id=caller.key_id, user_id=caller.user_id)
        self._known[digest] = (time.monotonic() + REMEMBERED, caller, notices)
        self._right[digest] = None
        for remembered in (self._known, self._right):
            remembered.move_to_end(digest)
            if len(remembered) > MOST_REMEMBERED:
                remembered.popitem(last=False)

    def forget(self, notices: Set[str] | None = None) -> None:
        """Asks the database anew for the keys that are meant by `notices` (see `change_feed`), or for every key."""
        self._asking.clear()
        if notices is None:
            self._known.clear()
            return
        for digest in [digest for digest, (_, _, own) in self._known.items() if not notices.isdisjoint(own)]:
            del self._known[digest]

    async def _look_up(self, session: AsyncSession, key_hash: str) -> Caller:
        retired = select(RetiredSecret.key_id).where(RetiredSecret.key_hash == key_hash, RetiredSecret.valid_until > func.clock_timestamp())
        by_hash, by_platform = PlatformApiKey.key_hash == key_hash, self._by_platform(key_hash)
        query = (
            select(
                PlatformApiKey.id,
                PlatformApiKey.user_id,
                KeyPolicy,
                Account.disabled_at,
                Account.user_id,
                KeyMeter.key_id,
                SpendGroup,
                by_platform.label("by_platform"),
            )
            .outerjoin(KeyPolicy, KeyPolicy.key_id == PlatformApiKey.id)
            .outerjoin(KeyMeter, KeyMeter.key_id == PlatformApiKey.id)
            .outerjoin(Account, Account.user_id == PlatformApiKey.user_id)
            .outerjoin(UserPolicy, UserPolicy.user_id == PlatformApiKey.user_id)
            .outerjoin(SpendGroup, SpendGroup.id == func.coalesce(KeyPolicy.group_id, UserPolicy.group_id))
            .where(or_(by_hash, PlatformApiKey.id == retired.scalar_subquery(), by_platform))
            .order_by(by_hash.desc().nulls_last(), PlatformApiKey.id.desc())
            .limit(1)
        )
        row = (await session.execute(query)).one_or_none()
        if row is None or row[1] is None:
            raise Unauthenticated("Incorrect API key provided. Check the key that your client sends, or ask your operator for a new one.")
        return await self._admitted(session, row, key_hash)

    def _by_platform(self, key_hash: str) -> ColumnElement[bool]:
        """Whether the platform's own column holds the key."""
        if self._platform_keys is None:
            return false()
        return and_(PlatformApiKey.key_hash.is_(None), literal_column(self._platform_keys.digest, String()) == key_hash)

    async def _admitted(
        self, session: AsyncSession, row: Row[int, str | None, KeyPolicy, datetime | None, str, int, SpendGroup, bool], key_hash: str
    ) -> Caller:
        key_id, user_id, policy, user_disabled_at, account_user_id, meter_key_id, group, by_platform = row
        assert user_id is not None
        if by_platform and self._platform_keys is not None:
            key_hash = self._platform_keys.presented(key_hash)
        if policy is not None and policy.disabled_at is not None:
            raise Unauthenticated("This API key has been disabled. Ask your operator for a new one.", code="api_key_disabled")
        if policy is not None and policy.expires_at is not None and policy.expires_at <= datetime.now(UTC):
            raise Unauthenticated("This API key has expired. Ask your operator for a new one.", code="api_key_expired")
        if account_user_id is None:
            await ensure_account(session, user_id, self._default_credit)
        if meter_key_id is None:
            await session.execute(insert(KeyMeter).values(key_id=key_id).on_conflict_do_nothing())
        if policy is None:
            return Caller(user_id, key_id, "key", None, None, user_disabled_at is not None, key_hash, Group.of(group) if group else None)
        return Caller(
            user_id,
            key_id,
            policy.scope,
            None if policy.models is None else tuple(policy.models),
            None if policy.allowed_ips is None else tuple(ip_network(allowed, strict=False) for allowed in policy.allowed_ips),
            user_disabled_at is not None,
            key_hash,
            Group.of(group) if group else None,
        )
