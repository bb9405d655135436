"""From the features of a request to the arrays of a model."""

from __future__ import annotations


class FieldError(Exception):
    """A feature of a request is wrong.

    Args:
        path: the feature, such as `candidates[3].price` or `context.user_age`.
        message: what is wrong with it.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message
