"""The deployment environments. Each difference between them is a field here; no construct asks for their names.

These are plain values without the CDK, so an import of this module alone does not start Node.js.

    ConfigurationError
    ├── EnvironmentUnknown   no environment has this name
    ├── SettingMissing       issuer or audience not given
    ├── SettingInvalid       given, but not usable
    ├── BundleMissing        no functions to deploy
    └── FindingsOpen         the security checks have findings that nobody acknowledged
"""

import platform
from dataclasses import dataclass, fields
from typing import Literal

Cpu = Literal["arm64", "x86_64"]
# CloudWatch accepts certain numbers of days only. The environments use these.
LogRetentionDays = Literal[1, 30, 365]

# A caller can retry a request from a quarter's last month when that quarter's invoice comes. A shorter retention would
# count the retry again.
MIN_USAGE_RETENTION_DAYS = 100

# The characters of a scope in a token. Source: RFC 6749, section 3.3.
_SCOPE_CHARACTERS = frozenset(map(chr, range(0x21, 0x7F))) - frozenset('"\\')


class ConfigurationError(Exception):
    """The requested configuration cannot be deployed. The message says what to do."""


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
    # The folder below build/bundle/ with the functions, built for `cpu` and `python`.
    bundle: Literal["cloud", "local"]
    cpu: Cpu
    python: str = "3.13"

    # If true, the stored usage outlives its stack, and the stack is protected from deletion.
    retain_data: bool
    # If true, plain HTTP is denied, and the issuer of tokens must use HTTPS.
    tls_only: bool
    # An existing bucket, to which `cdk deploy` uploads with the caller's own credentials. None means the bucket of
    # `cdk bootstrap`.
    asset_bucket: str | None = None

    log_retention_days: LogRetentionDays
    record_memory_mib: int
    query_memory_mib: int
    publisher_memory_mib: int
    # For all callers together. Beyond these limits, API Gateway answers 429.
    throttle_rate_per_s: int
    throttle_burst: int
    # 14 days: the longest time that SQS keeps a message.
    audit_retention_days: int = 14
    watcher_batch_size: int = 1000
    # As many records as one read of the stream returns. The publisher sends them in a hundred calls, several in
    # parallel. Lambda also ends a batch when its payload reaches 6 MB.
    publisher_batch_size: int = 1000

    # 400 days: a yearly invoice can be disputed for a month.
    usage_retention_days: int = 400
    # The claim with the organization in the issuer's tokens, and the prefix of this service's scopes there. The prefix
    # includes its separator: `metering/` for an Amazon Cognito resource server named `metering`. See
    # docs/how-to/connect-your-issuer.md.
    organization_claim: str = "org_id"
    scope_prefix: str = ""
    # Whether the claim `roles` counts if a token has no scopes. Microsoft Entra ID gives services only roles.
    roles_as_scopes: bool = False
    event_source: str = "saas.billing"
    # Whether to record usage of a feature that no plan has. "reject" reveals misspelt names, "accept" loses no usage.
    unknown_features: Literal["accept", "reject"]

    @property
    def token_variables(self) -> dict[str, str]:
        """The issuer's settings for a function that reads tokens, as environment variables."""
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
                f"scope_prefix must be characters of one scope and end in its separator, such as metering/, "
                f"not {self.scope_prefix!r}"
            )
        if self.usage_retention_days < MIN_USAGE_RETENTION_DAYS:
            raise ValueError(
                f"usage_retention_days must be at least {MIN_USAGE_RETENTION_DAYS}, not {self.usage_retention_days}"
            )


@dataclass(frozen=True)
class Trust:
    """The tokens to accept: signed by `issuer` and issued for one of `audiences`."""

    issuer: str
    audiences: tuple[str, ...]


def environment_named(name: str) -> Environment:
    """Raises: EnvironmentUnknown."""
    for environment in ENVIRONMENTS:
        if environment.name == name:
            return environment
    raise EnvironmentUnknown(f"There is no environment {name!r}: choose one of {', '.join(_names())}.")


def trust(environment: Environment, issuer: str | None, audience: str | None) -> Trust:
    """Return the issuer and the audiences whose tokens `environment` accepts. `audience` lists them with commas.

    Raises: SettingMissing, SettingInvalid.
    """
    given = {"issuer": (issuer or "").strip(), "audience": (audience or "").strip()}
    missing = [name for name, value in given.items() if not value]
    if missing:
        options = " ".join(f"-c {name}=…" for name in missing)
        raise SettingMissing(
            f"The environment {environment.name} has no issuer or audience of the tokens to accept: "
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
        raise SettingInvalid(f"The audience {given['audience']!r} is empty: give one or more audiences, with commas.")
    return Trust(given["issuer"], audiences)


def _names() -> list[str]:
    return [environment.name for environment in ENVIRONMENTS]


def _this_cpu() -> Cpu:
    return "arm64" if platform.machine().lower() in {"aarch64", "arm64"} else "x86_64"


# The emulator runs functions on its own Python and speaks plain HTTP. It has no bootstrap stack. The creation of
# one takes as long as our two stacks, and its bucket accepts no plain HTTP. The runner creates a bucket with one call.
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
