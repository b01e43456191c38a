import os
import sys

import pytest

from infra import deploy
from tools import output

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
        "deploy: Nothing was deployed, because the functions cannot be compiled: there is no Python 3.13 on this "
        "machine, so install one or set PYTHON313=/path/to/python3.13."
    )


def test_a_deployment_goes_on_when_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # The program prints more than a pipe can hold.
    program = "import sys\nfor stream in [sys.stdout, sys.stderr] * 100: print('x' * 2000, file=stream, flush=True)"

    @output.command("test", works=True)
    def main() -> int:
        return deploy.run([sys.executable, "-c", f"{program}\nsys.exit(7)"])

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        monkeypatch.setattr("sys.stderr", unread)
        assert main() == 7


def test_the_deployments_output_and_exit_code_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import sys; print('é'); print('why', file=sys.stderr); sys.exit(3)"
    assert deploy.run([sys.executable, "-X", "utf8", "-c", program]) == 3
    assert capfd.readouterr() == ("é\n", "why\n")
