"""Messages as JSON, to and from the bodies of frames, for codec.py."""

from patrolink_protocol import codec, decode, tail, track_decoder, track_encoder

COLUMNS = ("time", "lat", "lon", "state", "alt", "speed", "course", "hacc", "sats", "battery")
UNKNOWN = -(1 << 30)
buf = bytearray(1 << 14)


def read(kind, body):
    if kind != 2:
        return {k: v.hex() if isinstance(v, bytes) else v for k, v in decode.decode(kind, body).items()}
    resolution, columns = track_decoder.decode_columns(body)
    rows = [[None if v == UNKNOWN else v for v in row] for row in zip(*(columns[c] for c in COLUMNS), strict=True)]
    return {"message": "position_batch", "resolution": resolution, "rows": rows}


def write_rows(rows, resolution):
    encoder = track_encoder.TrackEncoder(len(rows), resolution)
    for time_ms, *row in rows:
        encoder.add(*divmod(time_ms, 86_400_000), [UNKNOWN if value is None else value for value in row])
    return encoder.encode_into(buf, 5, len(rows))


def write_message(kind, message):
    letters = dict(spec.split(":")[:2] for spec in codec.message_spec(kind)[1:])
    if message.keys() - {"message", "extensions"} != letters.keys():
        raise codec.FieldError("other fields")
    parse = {"s": str.encode, "x": bytes.fromhex}
    return codec.encode_into(kind, {k: parse.get(letters[k], lambda v: v)(message[k]) for k in letters}, buf, 5)


def write(channel, letter, numbers, value):
    """Return the answer to E (counter, flags, type; a message) or to B (counter, resolution, tick; rows)."""
    counter, flags, kind = numbers if letter == "E" else (numbers[0], 0, 2)
    try:
        end = write_message(kind, value) if letter == "E" else write_rows(value, numbers[1])
        if flags & 8:
            tlv = [(number & 127, number >> 7, bytes.fromhex(text)) for number, text in value["extensions"]]
            end = tail.write_into(buf, end, tlv)
        n = channel.seal_into(buf, kind, counter, end, bool(flags & 8))
    except KeyError:
        return {"reject": "type"}
    except (ValueError, TypeError):
        return {"reject": "range"}
    return {"frame": bytes(buf[:n]).hex()} if n <= 1024 else {"reject": "length"}
