"""Skipping numbers of torch's CPU generator, MT19937, without drawing them.

The generator's words obey a linear recurrence over GF(2) whose characteristic polynomial p has degree 19,937 (Matsumoto
and Nishimura 1998). So the word k places ahead is the sum of those of the next 19,937 words that the polynomial x^k
mod p names (Haramoto et al. 2008): milliseconds, whatever k is.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_N, _M = 624, 397
_DEGREE = 19937
_FEW_TWISTS = 500
"""Up to here, making all words in between is faster."""
# Where a generator's state has them, in bytes: how many words are left, the next, and all 624 as 64-bit words.
_LEFT, _NEXT, _WORDS = slice(8, 12), slice(16, 24), slice(24, 24 + 8 * _N)


def skip(generator: torch.Generator, numbers: int) -> None:
    """Leaves `generator`, a CPU's, as if it had drawn so many 32-bit numbers.

    A float32 of torch.rand takes one, and so does one of torch.randn, if there are 16 or a multiple of that at once.
    """
    state = generator.get_state().numpy()
    used = _N + 1 - int(state[_LEFT].view(np.int32)[0])
    twists, used = divmod(used + numbers - 1, _N)
    words = state[_WORDS].view(np.uint64).astype(np.uint32)
    state[_WORDS] = _after(words, twists).astype(np.uint64).view(np.uint8)
    state[_LEFT] = np.array([_N - used], np.int32).view(np.uint8)
    state[_NEXT] = np.array([used + 1], np.uint64).view(np.uint8)
    generator.set_state(torch.from_numpy(state))


def _after(words: Words, twists: int) -> Words:
    """The 624 words after so many times 624 more."""
    if twists <= _FEW_TWISTS:
        for _ in range(twists):
            words = _twisted(words)
        return words
    batches = [words]
    while len(batches) * _N < _DEGREE + _N:
        batches.append(_twisted(batches[-1]))
    # From the second word on: of the very first, the recurrence knows one bit only.
    ahead = np.concatenate([*batches, _twisted(batches[-1])])[1:]
    windows = np.lib.stride_tricks.sliding_window_view(ahead, _N)
    return np.bitwise_xor.reduce(windows[_terms_of_power(_N * twists - 1)], axis=0)


def _twisted(words: Words) -> Words:
    """The next 624 words."""
    new = np.empty_like(words)

    def mixed(high: Words, low: Words) -> Words:
        both = (high & np.uint32(0x80000000)) | (low & np.uint32(0x7FFFFFFF))
        return (both >> np.uint32(1)) ^ np.where(both & 1, np.uint32(0x9908B0DF), np.uint32(0))

    first = _N - _M
    new[:first] = words[_M:] ^ mixed(words[:first], words[1 : first + 1])
    for start in (first, 2 * first):  # each needs the new words of the one before
        stop = min(start + first, _N - 1)
        mix = mixed(words[start:stop], words[start + 1 : stop + 1])
        new[start:stop] = new[start - first : stop - first] ^ mix
    new[-1:] = new[_M - 1 : _M] ^ mixed(words[-1:], new[:1])
    return new


@functools.lru_cache(maxsize=64)
def _terms_of_power(exponent: int) -> NDArray[np.intp]:
    """The exponents of the terms of x^exponent mod p."""
    power = 1
    for bit in bin(exponent)[2:]:
        power = _reduced(_squared(power))
        if bit == "1":
            power = _reduced(power << 1)
    return np.flatnonzero(_bits(power))


def _squared(polynomial: int) -> int:
    bits = _bits(polynomial)
    spread = np.zeros(2 * len(bits), np.uint8)
    spread[::2] = bits
    return int.from_bytes(np.packbits(spread, bitorder="little").tobytes(), "little")


def _bits(polynomial: int) -> NDArray[np.uint8]:
    length = polynomial.bit_length() // 8 + 1
    as_bytes = np.frombuffer(polynomial.to_bytes(length, "little"), np.uint8)
    return np.unpackbits(as_bytes, bitorder="little")


def _reduced(polynomial: int) -> int:
    """The remainder by p."""
    while high := polynomial >> _DEGREE:
        polynomial &= (1 << _DEGREE) - 1
        for exponent in _characteristic():
            polynomial ^= high << exponent
    return polynomial


@functools.cache
def _characteristic() -> tuple[int, ...]:
    """The exponents of p's terms but the first, found from a bit of each number (Berlekamp and Massey's algorithm).

    Polynomials are whole numbers, whose bit k is the coefficient of x^k.
    """
    numbers = np.random.MT19937(0).random_raw(2 * _DEGREE)
    connection, before, length, since, seen = 1, 1, 0, 1, 0
    for place, bit in enumerate((numbers & 1).tolist()):
        seen = seen << 1 | bit
        if (connection & seen).bit_count() % 2 == 0:
            since += 1
        elif 2 * length > place:
            connection ^= before << since
            since += 1
        else:
            connection, before = connection ^ before << since, connection
            length, since = place + 1 - length, 1
    assert length == _DEGREE
    return tuple(_DEGREE - k for k in range(1, _DEGREE + 1) if connection >> k & 1)
