"""The environments: every difference between them is a field here, and no construct asks for a name.

Plain values, without the CDK: whoever only asks what an environment is does not wait for Node.js.

    ConfigurationError
    ├── EnvironmentUnknown   a name that stands for none
    ├── SettingMissing       issuer or audience not given
    ├── SettingInvalid       given, and of no use
    ├── BundleMissing        nothing built to deploy
    └── FindingsOpen         the security checks found what nobody acknowledged
"""

import platform
from dataclasses import dataclass, fields
from typing import Literal

Cpu = Literal["arm64", "x86_64"]
# CloudWatch takes no other numbers of days than its own; these are the ones we use.
LogRetentionDays = Literal[1, 30, 365]

# A retry of a request in the last month of a quarter may come with that quarter's invoice: below this the idempotency
# window is too short to be one.
MIN_USAGE_RETENTION_DAYS = 100

# Of one scope in a token. Source: RFC 6749, section 3.3.
_SCOPE_CHARACTERS = frozenset(map(chr, range(0x21, 0x7F))) - frozenset('"\\')


class ConfigurationError(Exception):
    """What is asked for cannot be deployed; the message is one sentence that says what to do."""


class EnvironmentUnknown(ConfigurationError):
    pass


class SettingMissing(ConfigurationError):
    pass


class SettingInvalid(ConfigurationError):
    pass


class BundleMissing(ConfigurationError):
    pass


class FindingsOpen(ConfigurationError):
    pass


@dataclass(frozen=True, kw_only=True)
class Environment:
    name: str
    # The folder below build/bundle/ that holds the functions, made for `cpu` and `python`.
    bundle: Literal["cloud", "local"]
    cpu: Cpu
    python: str = "3.13"

    # Stored usage outlives its stack, which is protected from deletion.
    retain_data: bool
    # Plain HTTP is denied, and a token's issuer has to speak HTTPS.
    tls_only: bool
    # The bucket that `cdk deploy` uploads to with the caller's own credentials, and that must exist; None: what
    # `cdk bootstrap` makes.
    asset_bucket: str | None = None

    log_retention_days: LogRetentionDays
    record_memory_mib: int
    query_memory_mib: int
    publisher_memory_mib: int
    # Requests of all callers together, enforced by API Gateway with 429.
    throttle_rate_per_s: int
    throttle_burst: int
    # 14 days: the longest that SQS keeps a message.
    audit_retention_days: int = 14
    watcher_batch_size: int = 1000
    # As many records as one read of the stream gives: a hundred calls for the publisher, who makes several at once.
    # Lambda ends a batch by itself where its 6 MB of payload do.
    publisher_batch_size: int = 1000

    # 400 days: a yearly invoice can be disputed for a month.
    usage_retention_days: int = 400
    # The claim of the issuer's tokens that holds the organization, and what precedes our scopes there, its separator
    # included: `metering/` for a resource server of Amazon Cognito that is called `metering`. See docs/how-to/connect-your-issuer.md.
    organization_claim: str = "org_id"
    scope_prefix: str = ""
    # Whether `roles` counts in a token without scopes: Microsoft Entra ID gives services nothing else.
    roles_as_scopes: bool = False
    event_source: str = "saas.billing"
    # Whether usage of a feature that no plan has is recorded: a misspelt name is found out sooner, or nothing is lost.
    unknown_features: Literal["accept", "reject"]

    @property
    def token_variables(self) -> dict[str, str]:
        """What a function that reads tokens has to know of the issuer, as its environment variables."""
        return {
            "ORGANIZATION_CLAIM": self.organization_claim,
            "SCOPE_PREFIX": self.scope_prefix,
            "ROLES_AS_SCOPES": "yes" if self.roles_as_scopes else "no",
        }

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")
        if not self.organization_claim:
            raise ValueError("organization_claim must name a claim")
        if not set(self.scope_prefix) <= _SCOPE_CHARACTERS or self.scope_prefix[-1:].isalnum():
            raise ValueError(
                f"scope_prefix must be characters of one scope and end in its separator, as metering/, "
                f"not {self.scope_prefix!r}"
            )
        if self.usage_retention_days < MIN_USAGE_RETENTION_DAYS:
            raise ValueError(
                f"usage_retention_days must be at least {MIN_USAGE_RETENTION_DAYS}, not {self.usage_retention_days}"
            )


@dataclass(frozen=True)
class Trust:
    """Whose tokens are accepted: signed by `issuer`, made out to one of `audiences`."""

    issuer: str
    audiences: tuple[str, ...]


def environment_named(name: str) -> Environment:
    """Raises: EnvironmentUnknown."""
    for environment in ENVIRONMENTS:
        if environment.name == name:
            return environment
    raise EnvironmentUnknown(f"There is no environment {name!r}: choose one of {', '.join(_names())}.")


def trust(environment: Environment, issuer: str | None, audience: str | None) -> Trust:
    """The issuer and the audiences (a list with commas) that `environment` accepts tokens of.

    Raises: SettingMissing, SettingInvalid.
    """
    given = {"issuer": (issuer or "").strip(), "audience": (audience or "").strip()}
    missing = [name for name, value in given.items() if not value]
    if missing:
        options = " ".join(f"-c {name}=…" for name in missing)
        raise SettingMissing(
            f"The environment {environment.name} needs to know whose tokens to accept: "
            f"set {' and '.join(missing)} ({options})."
        )
    scheme = "https://" if environment.tls_only else ("https://", "http://")
    if not given["issuer"].startswith(scheme):
        raise SettingInvalid(
            f"The issuer {given['issuer']!r} is not the {'https' if environment.tls_only else 'http or https'} URL "
            f"that the environment {environment.name} needs."
        )
    audiences = tuple(part.strip() for part in given["audience"].split(",") if part.strip())
    if not audiences:
        raise SettingInvalid(f"The audience {given['audience']!r} names nobody.")
    return Trust(given["issuer"], audiences)


def _names() -> list[str]:
    return [environment.name for environment in ENVIRONMENTS]


def _this_cpu() -> Cpu:
    return "arm64" if platform.machine().lower() in {"aarch64", "arm64"} else "x86_64"


# The emulator runs functions on its own Python and speaks plain HTTP. It has no bootstrap stack: that takes as long to
# make as our own two, and its bucket refuses plain HTTP. The runner makes a bucket with one call instead.
LOCAL = Environment(
    name="local",
    bundle="local",
    cpu=_this_cpu(),
    retain_data=False,
    tls_only=False,
    asset_bucket="usage-metering-assets",
    log_retention_days=1,
    unknown_features="accept",
    record_memory_mib=512,
    query_memory_mib=512,
    publisher_memory_mib=512,
    throttle_rate_per_s=1000,
    throttle_burst=2000,
)

DEV = Environment(
    name="dev",
    bundle="cloud",
    cpu="arm64",
    retain_data=False,
    tls_only=True,
    log_retention_days=30,
    unknown_features="accept",
    record_memory_mib=1024,
    query_memory_mib=1024,
    publisher_memory_mib=512,
    throttle_rate_per_s=100,
    throttle_burst=200,
)

PROD = Environment(
    name="prod",
    bundle="cloud",
    cpu="arm64",
    retain_data=True,
    tls_only=True,
    log_retention_days=365,
    unknown_features="reject",
    record_memory_mib=1024,
    query_memory_mib=1024,
    publisher_memory_mib=512,
    throttle_rate_per_s=2000,
    throttle_burst=4000,
)

ENVIRONMENTS = (LOCAL, DEV, PROD)
