"""The loops over the rows of a batch: machine code where MicroPython can, see `native`. MicroPython subset.

A column's values are unsigned. Its steps are kept as codes: 0, -1, 1, -2, 2 ... are 0, 1, 2, 3, 4 ...
"""

from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

CONSTANT = const(0)
FIXED = const(1)
RICE = const(2)
RAW = const(3)
RUNS = const(13)  # Rice parameters from here on stand for zero runs of order 2, 3, 4
ESCAPE = const(12)  # zero bits of a quotient after which the rest is Exp-Golomb
_TAME = const(1 << 29)  # steps below it have differences whose codes fit 31 bits


@micropython.viper
def quantise(row, columns: ptr32, values, at: int) -> int:
    """Store a row at `at` of the columns' values, in device units; return how many of it were stored.

    columns  for each: least or 0, least negated or 0, greatest, divisor, modulus or 0, 1 when optional, what is added
    It stops at a value out of range that is not optional.
    """
    n = int(len(values))
    i = 0
    while i < n:
        value = int(row[i])
        c = 7 * i
        if value >= columns[c] - columns[c + 1] and value <= columns[c + 2]:
            divisor = columns[c + 3]
            if divisor > 1:
                half = divisor >> 1
                if value >= 0:
                    value = (value + half) // divisor
                else:
                    value = 0 - (half - value) // divisor
            if columns[c + 4] and value == columns[c + 4] - 1:
                value = 0  # a full turn
            value += columns[c + 6]
        elif columns[c + 5]:
            value = 0
        else:
            break
        column = ptr32(values[i])
        column[at] = value
        i += 1
    return i


@micropython.viper
def tick(times: ptr32, n: int, finer: int) -> int:
    """Return the index of the coarsest of 1000, 100, 10 and 1 ms that divides all times; from 1 when `finer`."""
    unit = 1000
    found = 0
    if finer:
        unit = 100
        found = 1
    i = 0
    while i < n:
        time = times[i]
        i += 1
        while time % unit:
            unit = unit // 10
            found += 1
    return found


@micropython.viper
def known(values: ptr32, n: int) -> int:
    """Return 1 when one of the values is not 0."""
    i = 0
    while i < n:
        if values[i]:
            return 1
        i += 1
    return 0


@micropython.viper
def width(code: int) -> int:
    """Return how many bits a number has."""
    n = 0
    while code:
        code >>= 1
        n += 1
    return n


@micropython.viper
def first_steps(values: ptr32, codes: ptr32, n: int, unit: int, modulus: int) -> int:
    """Write the codes of the first differences, in `unit`, to codes[1:n].

    Return 0 when all of them are 0, -1 when one is too large for the codes, else 1.
    """
    half = modulus >> 1
    moved = 0
    before = values[0]
    i = 1
    while i < n:
        step = values[i] - before
        if step:
            before += step
            moved = 1
            if unit > 1:
                step = step // unit
            if modulus:
                step = (step + half) % modulus - half
            if step >= 0:
                if step >= _TAME:
                    return -1
                step <<= 1
            else:
                if step <= 0 - _TAME:
                    return -1
                step = ~(step << 1)
        codes[i] = step
        i += 1
    return moved


@micropython.viper
def second_steps(codes: ptr32, n: int, modulus: int):
    """Make the codes of first differences in codes[2:n] those of second differences."""
    half = modulus >> 1
    i = n - 1
    while i > 1:
        a = codes[i]
        b = codes[i - 1]
        if a | b:
            a = (a >> 1) ^ (0 - (a & 1))
            b = (b >> 1) ^ (0 - (b & 1))
            a -= b
            if modulus:
                a = (a + half) % modulus - half
            if a >= 0:
                a <<= 1
            else:
                a = ~(a << 1)
            codes[i] = a
        i -= 1


@micropython.viper
def measure(codes: ptr32, start: int, n: int, told: ptr32):
    """Tell of codes[start:n]: bits that any has, the sum of the low 16 bits, that of the others, how many are 0."""
    wide = 0
    low = 0
    high = 0
    zeros = 0
    i = start
    while i < n:
        code = codes[i]
        i += 1
        if code:
            wide |= code
            low += code & 0xFFFF
            high += code >> 16
        else:
            zeros += 1
    told[0] = wide
    told[1] = low
    told[2] = high
    told[3] = zeros


@micropython.viper
def rice(n: int, total: int) -> int:
    """Return the Rice parameter for n codes with that sum, below 2^29.

    It is judged by the sum, taking the low bits of each code to be worth half of what they can be: within half a
    percent of trying every parameter.
    """
    best = 0
    least = 0
    k = 0
    while k < 13:
        cost = 2 * total - n * ((1 << k) - 1) >> k + 1
        if cost < 0:
            cost = 0
        cost += n * (k + 1)
        if k == 0 or cost < least:
            least = cost
            best = k
        k += 1
    return best


@micropython.viper
def put(codes: ptr32, start: int, n: int, coding: int, writer: ptr32, buf: ptr8, size: int) -> int:
    """Append codes[start:n] to the bits in buf[:size]; return 0 when there is no room for them, else 1.

    coding  kind << 6 | its width or parameter; writer  where the next byte goes, bits that fill none yet, how many
    """
    pos = writer[0]
    acc = writer[1]
    held = writer[2]
    k = coding & 63
    coding >>= 6
    pending = 0
    i = start
    while i < n or pending:
        # What comes next: so many zeros, then so many bits of a value; or its Exp-Golomb code of an order.
        zeros = 0
        bits = 0
        order = -1
        if pending:
            value = pending - 1
            pending = 0
            order = 0
        elif coding == RICE and k >= RUNS:
            value = i
            while i < n and codes[i] == 0:
                i += 1
            value = i - value
            if i < n:
                pending = codes[i]
                i += 1
            order = k - RUNS + 2
        else:
            value = codes[i]
            i += 1
            if coding == FIXED:
                bits = k
            else:
                zeros = value >> k
                if zeros < ESCAPE:
                    value = 1 << k | value & (1 << k) - 1
                    bits = k + 1
                else:
                    zeros = ESCAPE
                    value -= ESCAPE << k
                    order = k + 3
        if order >= 0:
            value += 1 << order
            rest = value
            while rest:
                rest >>= 1
                bits += 1
            zeros += bits - order - 1
        while zeros + bits:
            # At most 16 at a time: 23 are held then.
            if zeros:
                part = zeros if zeros < 16 else 16
                zeros -= part
                acc <<= part
            else:
                part = bits if bits < 16 else 16
                bits -= part
                acc = acc << part | value >> bits & (1 << part) - 1
            held += part
            while held >= 8:
                held -= 8
                if pos >= size:
                    return 0
                buf[pos] = acc >> held
                pos += 1
                acc &= (1 << held) - 1
    writer[0] = pos
    writer[1] = acc
    writer[2] = held
    return 1
