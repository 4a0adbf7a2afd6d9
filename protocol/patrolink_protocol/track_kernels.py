"""Loops over the rows of a batch: machine code where MicroPython can emit it (see `native`). MicroPython subset.

Values of a column are unsigned. Differences are zigzag codes: 0, -1, 1, -2, 2 ... are 0, 1, 2, 3, 4 ...
"""

from patrolink_protocol.native import const, micropython, ptr8, ptr32  # noqa: F401

CONSTANT = const(0)
FIXED = const(1)
RICE = const(2)
RAW = const(3)
RUNS = const(13)  # Rice parameters from RUNS on mean zero runs of order 2, 3, 4
ESCAPE = const(12)  # zero bits of a quotient after which the remainder is Exp-Golomb
_MAX_DIFFERENCE = const(1 << 29)  # smaller ones have second differences whose codes fit 31 bits


@micropython.viper
def quantize(row, columns: ptr32, values, at: int) -> int:
    """Store a row as wire values.

    Args:
        row: Values in row units.
        columns: Seven numbers per column: minimum or 0, negated minimum or 0, maximum, divisor, modulus or 0, 1 if
            optional, offset added.
        values: One array of wire values per column.
        at: Index of the row in these arrays.

    Returns:
        The number of values stored; it stops at a value of a mandatory column that is out of range.
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
                value = 0  # the modulus itself
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
    """Return the index of the coarsest of 1000, 100, 10 and 1 ms that divides all times, at least 1 if `finer`."""
    unit = 1000
    index = 0
    if finer:
        unit = 100
        index = 1
    i = 0
    while i < n:
        time = times[i]
        i += 1
        while time % unit:
            unit = unit // 10
            index += 1
    return index


@micropython.viper
def known(values: ptr32, n: int) -> int:
    """Return 1 if any of the values is not 0."""
    i = 0
    while i < n:
        if values[i]:
            return 1
        i += 1
    return 0


@micropython.viper
def width(code: int) -> int:
    """Return the number of bits of a number."""
    n = 0
    while code:
        code >>= 1
        n += 1
    return n


@micropython.viper
def first_differences(values: ptr32, codes: ptr32, n: int, unit: int, modulus: int) -> int:
    """Write the codes of the first differences, in multiples of `unit`, to codes[1:n].

    Returns:
        0 if all differences are 0, -1 if one is too large for its code, else 1.
    """
    half = modulus >> 1
    moved = 0
    previous = values[0]
    i = 1
    while i < n:
        step = values[i] - previous
        if step:
            previous += step
            moved = 1
            if unit > 1:
                step = step // unit
            if modulus:
                step = (step + half) % modulus - half
            if step >= 0:
                if step >= _MAX_DIFFERENCE:
                    return -1
                step <<= 1
            else:
                if step <= 0 - _MAX_DIFFERENCE:
                    return -1
                step = ~(step << 1)
        codes[i] = step
        i += 1
    return moved


@micropython.viper
def second_differences(codes: ptr32, n: int, modulus: int):
    """Replace the codes of first differences in codes[2:n] by those of second differences."""
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
def measure(codes: ptr32, start: int, n: int, measured: ptr32):
    """Measure codes[start:n].

    Args:
        codes: Codes of a column.
        start: Index of the first code.
        n: Index after the last code.
        measured: Output: OR of the codes, sum of their low 16 bits, sum of their upper bits, number of zeros.
    """
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
    measured[0] = wide
    measured[1] = low
    measured[2] = high
    measured[3] = zeros


@micropython.viper
def rice_parameter(n: int, total: int) -> int:
    """Return the Rice parameter for n codes of a given sum, which is below 2**29.

    It is estimated from the sum; the low bits of each code count as half of their maximum. The result costs at most
    half a percent more bits than the best parameter.
    """
    best = 0
    best_cost = 0
    k = 0
    while k < 13:
        cost = 2 * total - n * ((1 << k) - 1) >> k + 1
        if cost < 0:
            cost = 0
        cost += n * (k + 1)
        if k == 0 or cost < best_cost:
            best_cost = cost
            best = k
        k += 1
    return best


@micropython.viper
def put(codes: ptr32, start: int, n: int, coding: int, writer: ptr32, buf: ptr8, size: int) -> int:
    """Append codes[start:n] to the bit stream in buf[:size].

    Args:
        codes: Codes of a column.
        start: Index of the first code.
        n: Index after the last code.
        coding: Kind << 6 | width or parameter.
        writer: Offset of the next byte, pending bits, number of pending bits; updated.
        buf: Output buffer.
        size: Length of the output buffer.

    Returns:
        1, or 0 if the buffer is too short.
    """
    pos = writer[0]
    acc = writer[1]
    held = writer[2]
    k = coding & 63
    coding >>= 6
    pending = 0
    i = start
    while i < n or pending:
        # Next: `zeros` zero bits, then `bits` bits of a value; or the Exp-Golomb code of order `order` of it.
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
            # At most 16 bits at a time, so that at most 23 are pending.
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
