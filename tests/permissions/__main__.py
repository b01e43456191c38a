"""`make permissions`: remove each grant of the functions' roles, one at a time, and name the test that notices.

Writes docs/permissions.md. Exit codes: 0; 1 if the result contradicts UNENFORCED, which lists the grants that the
emulator does not enforce. The code is also 1 if a test fails with every grant, or if the stack does not start.
"""

import sys
import time

from infra.environments import LOCAL
from local import emulator, stack
from local.errors import StartFailed
from ops import local_stack
from tests.permissions.grants import Grant, grants, taken_away
from tests.permissions.noticing import DOCUMENT, contradictions, first_to_notice, rendered
from tests.testing.local_stack import LocalStack
from tests.testing.stacks import read
from tools import output
from tools.setup import ROOT

_DIRECTORY = ROOT / "build" / "permissions"
# A warm stack delivers within two seconds. A test without a grant waits this long for an event that never comes.
_PATIENCE_S = 20.0


@output.command("permissions", works=True)
def main() -> int:
    try:
        with stack.running(_DIRECTORY, emulator.free_port(), _say) as running:
            return _take_each_away(LocalStack(running, _DIRECTORY / "local.json"))
    except StartFailed as failed:
        _say(str(failed))
        return 1


def _take_each_away(deployed: LocalStack) -> int:
    templates = read(local_stack.folder(deployed.local_json) / "cdk.out", LOCAL, findings_open=False)
    granted = grants(templates)
    _say("running the tests with every grant …")
    if failed := first_to_notice(deployed):
        _say(f"{failed} fails although no grant is missing: fix it first.")
        return 1
    deployed.patience_s = _PATIENCE_S
    noticed: dict[Grant, str | None] = {}
    for number, grant in enumerate(granted, start=1):
        started = time.monotonic()
        with taken_away(deployed, templates, grant):
            noticed[grant] = first_to_notice(deployed)
        _say(f"{number}/{len(granted)} without {grant}: {noticed[grant]} ({time.monotonic() - started:.1f} s)")
    if failed := first_to_notice(deployed):
        _say(f"{failed} fails although every grant is back in place.")
        return 1
    text = rendered(granted, noticed)
    print(text[text.index("| function") :])
    if wrong := contradictions(noticed):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    DOCUMENT.write_text(text, "utf-8")
    return 0


def _say(what: str) -> None:
    print(f"permissions: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
