"""The reference codec with a fault: it forgets what it has accepted when a counter above 1000 comes.

python forgetful_codec.py [--sats]        --sats: shows another number of satellites instead
"""

import json
import sys

from patrolink.conformance.reference_session import ReferenceSession


def main(change_sats: bool) -> None:
    session, forgotten = ReferenceSession(), False
    for line in sys.stdin:
        request = line.rstrip("\n")
        if request == "V":
            print(json.dumps({"protocol": "1.0", "codec": "forgetful", "rice": True}), flush=True)
            continue
        answer = session.answer(request)
        if isinstance(answer, str):
            answer = {"reject": answer.split()[0]}
        if request.startswith("S "):
            counter = int.from_bytes(bytes.fromhex(request[2:])[1:5], "big")
            forgotten |= counter > 1000
            if forgotten and answer == {"step": "repeated"} and not change_sats:
                answer = {"step": "accepted"}
        if change_sats and answer and len(answer.get("message", {}).get("rows", [])) > 2:
            answer["message"]["rows"][-1][8] = 55
        if answer is not None:
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main("--sats" in sys.argv)
