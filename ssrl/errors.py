"""The exception for errors that users can fix."""


class UserError(Exception):
    """An error that a user can fix. The message says what we got, what is allowed and what to do."""
