"""Selects the slot that a device starts. Pure: what is to be written before the start is returned as records."""

from collections import namedtuple

from agent.update.boot_records import ATTEMPT, FAILED, SLOTS
from patrolink_protocol.native import const

ATTEMPTS_MAX = const(3)  # starts of an image that may end badly

RUN = const(1)
RUN_SAFE = const(2)  # safe mode: only the link is started
RECOVER = const(3)  # no slot can be started

# `slot` is None for RECOVER; `records` are to be appended, in this order, before the slot is started.
Selection = namedtuple("Selection", ("action", "slot", "records"))


def select(state, holds, power_on):
    """Return the Selection for a start of the device.

    The newest image that holds is started. An image on trial is marked before each start; when ATTEMPTS_MAX starts have
    ended badly, it has failed, and the previous image is started. An image that has no other to fall back to, or is
    confirmed, gets into safe mode instead, until the next power-on. A confirmed image may be below the rollback floor.

    Args:
        state: BootState.
        holds: Returns whether the slot of a number holds the image that the records tell of, with intact content. It
            reads the whole slot, so it is called only where needed.
        power_on: Whether the device was switched on: the previous run did not end by a reset. For a confirmed image the
            count begins anew then. For an image on trial it goes on, as the image may have hung until the wearer
            switched the device off.
    """
    records = []
    numbers = candidates(state)
    while numbers:
        number = numbers.pop(0)
        slot = state.slots[number]
        if not holds(number):
            continue
        attempts = 1 if power_on and slot.confirmed else slot.attempts + 1
        if attempts > ATTEMPTS_MAX:
            if not slot.confirmed and _any_holds(numbers, holds):
                records.append(state.slot_record(FAILED, number))
                continue
            if not power_on:
                return Selection(RUN_SAFE, number, records)
            attempts = 1
        if attempts != slot.attempts:
            records.append(state.slot_record(ATTEMPT, number, attempts))
        return Selection(RUN, number, records)
    return Selection(RECOVER, None, records)


def candidates(state):
    """Return the numbers of the slots that may be started, newest image first."""
    numbers = []
    for number in range(SLOTS):
        slot = state.slots[number]
        if slot.install and not slot.failed and (slot.confirmed or slot.rollback >= state.floor):
            numbers.append(number)
    numbers.sort(key=lambda number: -state.slots[number].install)
    return numbers


def _any_holds(numbers, holds):
    for number in numbers:
        if holds(number):
            return True
    return False
