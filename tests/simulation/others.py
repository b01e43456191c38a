"""Operators' commands, other services' events, and TTL."""

from collections.abc import Mapping
from random import Random

from tests.faults.evidence import Done
from tests.faults.workload import UNTIL_ANSWERED, Action, EventSent
from tests.simulation.environment import Environment
from tests.simulation.functions import TIMEOUT_S, Build
from tests.simulation.world import World

# A command needs many successful calls, so each of them fails less often than a request's.
_LUCK = 4.0
# Pauses before an operator, or Lambda, tries again.
_AGAIN_S = (0.1, 1.0, 5.0, 60.0)


class Others:
    """Runs the actions of operators and other services, logs them, and deletes expired records as TTL does."""

    def __init__(self, world: World, functions: Mapping[str, Build]) -> None:
        self._world = world
        self._functions = functions
        self.log: list[Done] = []
        self.given_up: list[str] = []
        """The actions that never succeeded."""

    def do(self, action: Action) -> None:
        """Run the action, and try again until it succeeds. Call it in a process of its own."""
        world = self._world
        # This text and the label below seed random numbers: another word would change the run of every seed.
        random = Random(f"{world.seed} deed {action.id}")
        began, began_at_s = world.scheduler.moment(), world.now_s
        last_effect_s = 0.0
        for number in range(UNTIL_ANSWERED):
            done, effect_s = self._try(action, number)
            last_effect_s = max(last_effect_s, effect_s)
            if done:
                break
            world.scheduler.sleep(random.choice(_AGAIN_S))
        else:
            self.given_up.append(f"action {action.id}")
        # Until then, a late request of this action may still overwrite others' changes.
        world.scheduler.sleep(max(0.0, last_effect_s - world.now_s))
        self.log.append(Done(action, began, world.scheduler.moment(), began_at_s, world.now_s))

    def sweep(self) -> None:
        """Delete some of the expired usage records: TTL is late and does not delete all of them at once."""
        random = Random(f"{self._world.seed} sweep {self._world.now_s}")
        now_s = self._world.now_s
        for key, item in list(self._world.store.items.items()):
            # 5 s, as clocks differ; real TTL is hours late. Notices stay: they outlive their period in any run.
            is_old = key[0].startswith("usage#") and int(item["expiresAt"]["N"]) < now_s - 5
            if is_old and random.random() < 0.7:
                self._world.store.delete(key)

    def _try(self, action: Action, number: int) -> tuple[bool, float]:
        function = "subscriptions" if isinstance(action, EventSent) else "operator"
        environment = Environment(self._world, TIMEOUT_S[function], self._functions[function], luck=_LUCK)
        label = f"deed {action.id}.{number}"
        self._world.say(lambda: f"{label} {action}")
        answer: object
        try:
            answer = environment.invoke(_event_of(action), label)
            done = not environment.is_dead
        except Exception as error:  # noqa: BLE001 - Lambda's runtime and a shell report every error
            answer, done = error, False
        self._world.say(lambda: f"{label} {'succeeded' if done else f'failed: {answer!r}'}")
        return done, environment.last_effect_s


def _event_of(action: Action) -> dict[str, object]:
    if isinstance(action, EventSent):
        return action.event
    return {name: value for name, value in vars(action).items() if name not in ("id", "after")}
