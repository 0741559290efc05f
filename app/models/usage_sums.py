"""What sums of the call log tell apart, and what they sum up: the columns that all of their tables have.

Absent keys and upstreams are 0, so that primary keys hold. `latencies` and `first_tokens` are histograms of milliseconds, each in one
number: see `ledger/functions/latency_bucket.sql`. No foreign keys: books outlive people.
"""

from decimal import Decimal

from sqlalchemy import BigInteger, Boolean, Integer, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column


class UsageSums:
    user_id: Mapped[str] = mapped_column(String(50), primary_key=True)
    api_key_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    model_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    upstream_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    api: Mapped[str] = mapped_column(String(50), primary_key=True)
    status: Mapped[str] = mapped_column(String(20), primary_key=True)
    is_local: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    charge: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    bill: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    write_off: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    upstream_cost: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    latencies: Mapped[Decimal] = mapped_column(Numeric)
    first_tokens: Mapped[Decimal] = mapped_column(Numeric)
