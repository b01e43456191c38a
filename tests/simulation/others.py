"""Operators at work, other services' events, and TTL."""

from collections.abc import Mapping
from random import Random

from tests.faults.evidence import Done
from tests.faults.workload import UNTIL_ANSWERED, EventSent
from tests.faults.workload import Action as Deed
from tests.simulation.environment import Environment
from tests.simulation.functions import TIMEOUT_S, Build
from tests.simulation.world import World

# An operator's command makes many calls, each of which has to succeed.
_LUCK = 4.0
# How long an operator, or Lambda, waits before the next try.
_AGAIN_S = (0.1, 1.0, 5.0, 60.0)


class Others:
    """All who change what the table says beside the clients, and their log."""

    def __init__(self, world: World, functions: Mapping[str, Build]) -> None:
        self._world = world
        self._functions = functions
        self.log: list[Done] = []
        self.given_up: list[str] = []
        """What was tried over and over and never done."""

    def do(self, deed: Deed) -> None:
        """Have it done, however often it takes, as a process of its own."""
        world = self._world
        random = Random(f"{world.seed} deed {deed.id}")
        began, began_at_s = world.scheduler.moment(), world.now_s
        lands_s = 0.0
        for number in range(UNTIL_ANSWERED):
            done, lands_at_s = self._try(deed, number)
            lands_s = max(lands_s, lands_at_s)
            if done:
                break
            world.scheduler.sleep(random.choice(_AGAIN_S))
        else:
            self.given_up.append(f"deed {deed.id}")
        # Until then one of its requests may still come, and undo what others do meanwhile.
        world.scheduler.sleep(max(0.0, lands_s - world.now_s))
        self.log.append(Done(deed, began, world.scheduler.moment(), began_at_s, world.now_s))

    def sweep(self) -> None:
        """Delete some of what has expired: TTL comes late, and not to everything at once."""
        random = Random(f"{self._world.seed} sweep {self._world.now_s}")
        now_s = self._world.now_s
        for key, item in list(self._world.store.items.items()):
            # Clocks are apart; TTL itself is hours late. A notice outlives its period, whatever the retention is here.
            is_old = key[0].startswith("usage#") and int(item["expiresAt"]["N"]) < now_s - 5
            if is_old and random.random() < 0.7:
                self._world.store.delete(key)

    def _try(self, deed: Deed, number: int) -> tuple[bool, float]:
        function = "subscriptions" if isinstance(deed, EventSent) else "operator"
        environment = Environment(self._world, TIMEOUT_S[function], self._functions[function], luck=_LUCK)
        label = f"deed {deed.id}.{number}"
        self._world.say(lambda: f"{label} {deed}")
        answer: object
        try:
            answer = environment.invoke(_order(deed), label)
            done = not environment.is_dead
        except Exception as error:  # noqa: BLE001 - what Lambda's runtime, or a shell, shows
            answer, done = error, False
        self._world.say(lambda: f"{label} {'is done' if done else f'failed: {answer!r}'}")
        return done, environment.lands_s


def _order(deed: Deed) -> dict[str, object]:
    if isinstance(deed, EventSent):
        return deed.event
    return {name: value for name, value in vars(deed).items() if name not in ("id", "after")}
