"""Text of others."""


def printable(text: str) -> str:
    r"""The text with what would steer a terminal escaped: a file can hold anything.

    Example:
        >>> printable("a\x1b[31mred")
        'a\\x1b[31mred'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
