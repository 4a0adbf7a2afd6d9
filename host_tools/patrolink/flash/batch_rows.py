"""Which row of a table of devices a unit gets. Pure: what was decided before comes from the ledger.

A unit gets, in this order: the row that names its unique id; the row that the ledger says it is; the row of the device
whose configuration it has; the next free row of its board, in the order of the table. No row goes to two units, and no
unit gets two rows.
"""

from collections.abc import Mapping, Sequence

from patrolink.flash.provision.plan import PlannedDevice
from patrolink.flash.records import Identity, RefusedError


class BatchRows:
    """The rows of a table.

    Args:
        devices: The rows, in their order.
        units: Unique id of the unit that each device is, from the ledger.
        board: Name of the board that the image is for.
    """

    def __init__(self, devices: Sequence[PlannedDevice], units: Mapping[str, str], board: str) -> None:
        self._devices = {device.name: device for device in devices}
        self._named = {device.table.row.unique_id: device.name for device in devices if device.table.row.unique_id}
        self._units = dict(units)
        self._board = board
        self._ports: dict[str, str] = {}

    def take(self, port: str, identity: Identity, free: bool = True) -> PlannedDevice | None:
        """Return the row of the unit on a port, which is taken from now on.

        Args:
            port: The port.
            identity: What the unit says of itself.
            free: Whether it may get the next free row; None is returned if it needs one, else.

        Raises:
            RefusedError: There is none for it; the text says why.
        """
        unit = identity.unique_id
        if not unit:
            raise RefusedError(f"{port}: the device has no unique id, so that it cannot be distinguished from others")
        if self._ports.setdefault(unit, port) != port:
            raise RefusedError(f"{port}: {self._ports[unit]} has the unique id {unit}, too; disconnect one of them")
        device = self._find(port, unit, identity.device, free)
        if device is None:
            return None
        if device.table.row.board != self._board:
            raise RefusedError(
                f"{port}: the row of {device.name} is for board {device.table.row.board}, the image for {self._board}; "
                "correct the table, or use another image"
            )
        self._units[device.name] = unit
        return device

    def _find(self, port: str, unit: str, claimed: str, free: bool) -> PlannedDevice | None:
        earlier = next((name for name, owner in self._units.items() if owner == unit), "")
        name = self._named.get(unit) or earlier
        if name and earlier and name != earlier:
            raise RefusedError(
                f"{port}: unit {unit} is {earlier} in the ledger, {name} in the table; correct the table, or revoke "
                f"{earlier} first"
            )
        if not name and self._is_free(claimed):
            name = claimed
        if not name and not free:
            return None
        if not name:
            name = next(filter(self._is_free, self._devices), "")
        if not name:
            raise RefusedError(f"{port}: no row of board {self._board} is free for unit {unit}; add a row to the table")
        if name not in self._devices:
            raise RefusedError(f"{port}: unit {unit} is {name} in the ledger; add its row to the table, or revoke it")
        owner = self._units.get(name, unit)
        if owner != unit:
            raise RefusedError(
                f"{port}: {name} is unit {owner} in the ledger, and two units must not have one key; revoke {name}, "
                f"give it a new key with --rotate {name}, then repeat"
            )
        return self._devices[name]

    def _is_free(self, name: str) -> bool:
        device = self._devices.get(name)
        if device is None or name in self._units:
            return False
        return not device.table.row.unique_id and device.table.row.board == self._board
