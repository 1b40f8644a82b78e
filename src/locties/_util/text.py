"""Text from files."""


def printable(text: str) -> str:
    r"""The text with control characters escaped: text from a file could control the terminal.

    Example:
        >>> printable("a\x1b[31mred")
        'a\\x1b[31mred'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
