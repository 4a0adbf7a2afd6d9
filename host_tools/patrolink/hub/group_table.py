"""The groups of a hub, as the service knows them from the voice."""

from typing import Any

Row = dict[str, Any]


class GroupTable:
    """Newest state of each group: rows as the console shows them."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._private: dict[str, int] = {}  # by device
        self._new_rows: dict[int, Row] | None = None  # while the voice sends its whole state

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._rows)

    def rows(self) -> list[Row]:
        """Return the state of all groups."""
        return list(self._rows.values())

    def private_group(self, device: str) -> int | None:
        """Return the number of a device's private group, None if there is none."""
        return self._private.get(device)

    def begin_state(self) -> None:
        """Expect the whole state of the voice."""
        self._new_rows = {}

    def end_state(self) -> list[Row]:
        """Take over the state that was received. Returns the messages that inform dispatchers of what has changed."""
        rows, self._new_rows = self._new_rows or {}, None
        messages: list[Row] = [{"type": "gone", "group": number} for number in self._rows if number not in rows]
        for number, row in rows.items():
            known = self._rows.get(number)
            if known is None or not _is_same(known, row):
                messages.append({"type": "group" if known is None else "floor", **row})
        self._rows = {}
        self._private = {}
        for row in rows.values():
            self.update(row)
        return messages

    def update(self, row: Row) -> None:
        """Store the state of a group."""
        if self._new_rows is not None:
            self._new_rows[row["group"]] = row
            return
        self._rows[row["group"]] = row
        if row["kind"] == "private":
            for device in row["members"]:
                self._private[device] = row["group"]

    def count(self, group: int, packets: int, lost: int) -> None:
        """Store the packets of the burst in progress in a group."""
        if group in self._rows:
            self._rows[group] |= {"packets": packets, "lost": lost}

    def remove(self, number: int) -> None:
        """Forget a group that has ended."""
        self._rows.pop(number, None)
        if self._new_rows is not None:
            self._new_rows.pop(number, None)


def _is_same(first: Row, second: Row) -> bool:
    times = {"now_ms": 0}
    return {**first, **times} == {**second, **times}
