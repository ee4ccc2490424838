"""The one exception that is meant for users."""


class UserError(Exception):
    """Something a user can put right. The message says what we got, what is allowed and what to do."""
