"""The one exception that a user's mistake may become."""


class UserError(Exception):
    """Something the user can mend.

    The message is ONE line that names the key or file, what was found, what was expected and the
    next step. ``ccsweep.app`` prints it without a traceback and exits with status 2.
    """
