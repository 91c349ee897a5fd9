"""What a caller can get wrong, said in one clear line."""


class InputError(ValueError):
    """Wrong input: the message says what, where, what was expected and what to do.

    The command line prints the message alone and exits with status 2.
    """
