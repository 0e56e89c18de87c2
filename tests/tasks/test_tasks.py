from ccsweep.config.schema import TASKS
from ccsweep.tasks import task


def test_every_task_is_the_function_of_its_name_in_the_module_of_its_name() -> None:
    for name in TASKS:
        found: object = task(name)
        assert (found.__module__, getattr(found, "__name__", None)) == (f"ccsweep.tasks.{name}", name)
