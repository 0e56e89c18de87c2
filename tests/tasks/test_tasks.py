from ccsweep.config.schema import TASKS
from ccsweep.tasks import task


def test_every_task_is_the_function_of_its_name_in_the_module_or_the_room_of_its_name() -> None:
    for name in TASKS:
        found: object = task(name)
        assert getattr(found, "__name__", None) == name
        assert f"{found.__module__}.".startswith(f"ccsweep.tasks.{name}.")
