import dataclasses

import pytest

from infra import environments
from infra.environments import (
    DEV,
    ENVIRONMENTS,
    LOCAL,
    PROD,
    Environment,
    EnvironmentUnknown,
    SettingInvalid,
    SettingMissing,
    Trust,
)

ISSUER = "https://issuer.example"


def test_the_environments_are_local_dev_and_prod() -> None:
    assert [environment.name for environment in ENVIRONMENTS] == ["local", "dev", "prod"]


def test_an_environment_is_found_by_its_name() -> None:
    assert environments.environment_named("dev") is DEV


def test_an_unknown_environment_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(EnvironmentUnknown, match=r"no environment 'staging': choose one of local, dev, prod\.$"):
        environments.environment_named("staging")


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)
@pytest.mark.parametrize(
    ("issuer", "audience", "missing"),
    [
        (None, "a", r"issuer \(-c issuer=…\)"),
        (ISSUER, None, r"audience \(-c audience=…\)"),
        ("", " ", "issuer and audience"),
    ],
)
def test_a_missing_issuer_or_audience_is_refused_by_name(
    environment: Environment, issuer: str | None, audience: str | None, missing: str
) -> None:
    with pytest.raises(SettingMissing, match=missing):
        environments.trust(environment, issuer, audience)


@pytest.mark.parametrize("environment", [DEV, PROD], ids=lambda environment: environment.name)
@pytest.mark.parametrize("issuer", ["http://issuer.example", "issuer.example", "//issuer.example"])
def test_an_issuer_in_the_cloud_that_is_not_https_is_refused(environment: Environment, issuer: str) -> None:
    with pytest.raises(SettingInvalid, match="https URL"):
        environments.trust(environment, issuer, "a")


def test_a_local_issuer_may_speak_http() -> None:
    assert environments.trust(LOCAL, "http://127.0.0.1:4567", "a") == Trust("http://127.0.0.1:4567", ("a",))


def test_audiences_are_separated_by_commas() -> None:
    assert environments.trust(DEV, ISSUER, "a, b,").audiences == ("a", "b")


def test_an_audience_of_nothing_but_commas_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="is empty: give one or more"):
        environments.trust(DEV, ISSUER, ",,")


def test_usage_is_kept_for_at_least_100_days() -> None:
    assert dataclasses.replace(DEV, usage_retention_days=100).usage_retention_days == 100
    with pytest.raises(ValueError, match="usage_retention_days must be at least 100, not 99"):
        dataclasses.replace(DEV, usage_retention_days=99)


@pytest.mark.parametrize("name", ["publisher_batch_size", "audit_retention_days", "throttle_burst"])
def test_a_number_that_turns_something_off_is_refused(name: str) -> None:
    change: dict[str, int] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        dataclasses.replace(DEV, **change)  # type: ignore[arg-type]  # mypy checks every field against int


@pytest.mark.parametrize("prefix", ["metering", "metering/ ", "a b/", 'a"/', "a\\", "ü/", "\n/"])
def test_a_malformed_scope_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="scope_prefix must be characters of one scope and end in its separator"):
        dataclasses.replace(DEV, scope_prefix=prefix)


def test_an_empty_organization_claim_is_refused() -> None:
    with pytest.raises(ValueError, match="organization_claim must name a claim"):
        dataclasses.replace(DEV, organization_claim="")


def test_functions_learn_how_the_issuer_writes_its_tokens() -> None:
    entra = dataclasses.replace(DEV, organization_claim="azp", scope_prefix="metering/", roles_as_scopes=True)
    assert entra.token_variables == {
        "ORGANIZATION_CLAIM": "azp",
        "SCOPE_PREFIX": "metering/",
        "ROLES_AS_SCOPES": "yes",
    }


def test_prod_retains_data_and_the_others_do_not() -> None:
    assert [environment.name for environment in ENVIRONMENTS if environment.retain_data] == ["prod"]


def test_only_the_emulator_accepts_plain_http() -> None:
    assert [environment.name for environment in ENVIRONMENTS if not environment.tls_only] == ["local"]


def test_the_cloud_runs_python_3_13_on_arm64() -> None:
    assert {(cloud.python, cloud.cpu, cloud.bundle) for cloud in (DEV, PROD)} == {("3.13", "arm64", "cloud")}
