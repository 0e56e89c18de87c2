"""A user's mistake as one exception, and a run that was ended early on purpose as another."""


class UserError(Exception):
    """Something the user can mend.

    The message is ONE line that names the key or file, what was found, what was expected and the
    next step. ``ccsweep.app`` prints it without a traceback and exits with status 2.
    """


class Pruned(Exception):  # noqa: N818 - it ends a run, and nothing went wrong
    """A study ended this run early; the message is one line that says why."""
