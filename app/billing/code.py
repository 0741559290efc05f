"""How redemption codes are written: `7K3M-Q9XD-2B4W-HT8E-51ZP`.

The characters are those of Crockford's base 32 (digits and letters without I, L, O and U), each five bits; small letters,
O for 0, I and L for 1, and any spaces and hyphens are read as well. Nineteen are random, 95 bits. The last is a check: the
sum, in the field of 32 elements, of each character times a power of a generator of its own, so that one wrong character and
any two that are swapped are always found.
"""

import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 20
GROUP = 4
_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, which is primitive: the powers of x are all 31 elements but 0."""
_READ = str.maketrans({"O": "0", "I": "1", "L": "1"} | dict.fromkeys(" \t-\u2010\u2011\u2012\u2013\u2014\u2212"))


def new_code() -> str:
    """With hyphens, as it is shown."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH - 1))
    code = drawn + _check(drawn)
    return "-".join(code[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def read_code(text: str) -> str:
    """As it is hashed: capitals without hyphens. Raises `ValueError` for what is no code, or a mistyped one."""
    code = text.upper().translate(_READ)
    if unknown := sorted({letter for letter in code if letter not in ALPHABET}):
        raise ValueError(f"a code has no {unknown[0]!r}: check it")
    if len(code) != LENGTH:
        raise ValueError(f"a code has {LENGTH} characters, and this has {len(code)}: check it")
    if code[-1] != _check(code[:-1]):
        raise ValueError("this code is mistyped: compare it with what you were given, character by character")
    return code


def _check(drawn: str) -> str:
    """Horner's rule, the first character with the highest power; the check itself has the power 0."""
    total = 0
    for letter in drawn:
        total ^= ALPHABET.index(letter)
        total <<= 1
        if total & 0b100000:
            total ^= _POLYNOMIAL
    return ALPHABET[total]
