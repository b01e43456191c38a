import pytest

from infra import deploy

SETTINGS = {"environment": "dev", "issuer": "https://issuer.example", "audience": "usage-metering"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"environment": ""}, "ENV must be set: make deploy ENV=dev|prod ISSUER=https://… AUDIENCE=…"),
        ({"issuer": "", "audience": ""}, "ISSUER, AUDIENCE must be set"),
        ({"environment": "staging"}, "There is no environment 'staging'"),
        ({"environment": "local"}, "local is not for the cloud"),
        ({"issuer": "http://issuer.example"}, "The issuer 'http://issuer.example' is not the https URL"),
    ],
)
def test_nothing_is_deployed_with_a_setting_that_is_missing_or_wrong(
    capsys: pytest.CaptureFixture[str], change: dict[str, str], said: str
) -> None:
    given = {**SETTINGS, **change}
    assert deploy.main([f"--{name}={value}" for name, value in given.items()]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deploy: {said}")


def test_functions_that_cannot_be_compiled_are_not_deployed(capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--{name}={value}" for name, value in SETTINGS.items()]
    assert deploy.main(given, find_compiler=lambda: None) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "deploy: Nothing was deployed, because only compiled functions are: there is no Python 3.13 here: install one, "
        "or set PYTHON313=/path/to/python3.13."
    )
