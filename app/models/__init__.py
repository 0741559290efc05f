"""The tables, one a file. Importing this package registers them all on `app.database.Base`."""

from app.models.account import Account
from app.models.admin_token import AdminToken
from app.models.api_call_log import ApiCallLog
from app.models.archive_file import ArchiveFile
from app.models.archived_usage import ArchivedUsage
from app.models.audit_entry import AuditEntry
from app.models.background_call import BackgroundCall
from app.models.call_hold import CallHold
from app.models.catalog_version import CatalogVersion
from app.models.code_batch import CodeBatch
from app.models.code_guesses import CodeGuesses
from app.models.credit_entry import CreditEntry
from app.models.instance import Instance
from app.models.key_meter import KeyMeter
from app.models.key_policy import KeyPolicy
from app.models.model import Model
from app.models.model_price import ModelPrice
from app.models.model_route import ModelRoute
from app.models.notification import Notification
from app.models.platform_api_key import PlatformApiKey
from app.models.redemption_code import RedemptionCode
from app.models.retired_secret import RetiredSecret
from app.models.spend_group import SpendGroup
from app.models.upstream import Upstream
from app.models.upstream_object import UpstreamObject
from app.models.upstream_price import UpstreamPrice
from app.models.usage_hourly import UsageHourly
from app.models.usage_period import UsagePeriod
from app.models.user import User
from app.models.user_policy import UserPolicy

__all__ = [
    "Account",
    "AdminToken",
    "ApiCallLog",
    "ArchiveFile",
    "ArchivedUsage",
    "AuditEntry",
    "BackgroundCall",
    "CallHold",
    "CatalogVersion",
    "CodeBatch",
    "CodeGuesses",
    "CreditEntry",
    "Instance",
    "KeyMeter",
    "KeyPolicy",
    "Model",
    "ModelPrice",
    "ModelRoute",
    "Notification",
    "PlatformApiKey",
    "RedemptionCode",
    "RetiredSecret",
    "SpendGroup",
    "Upstream",
    "UpstreamObject",
    "UpstreamPrice",
    "UsageHourly",
    "UsagePeriod",
    "User",
    "UserPolicy",
]
