"""Answer of a board without slots to a firmware message."""

import patrolink_enums as enums
import patrolink_messages as m


def refuse(message, reporter, log):
    """Report that such a board takes no image over the air.

    Args:
        message: The firmware message.
        reporter: agent.tracking.reporter.Reporter.
        log: Function of one string.
    """
    log("update: refused; this board has no slots")
    reporter.send(
        m.FIRMWARE_STATUS,
        {
            "command_id": message["command_id"],
            "state": enums.FIRMWARE_STATUS_STATE_REFUSED,
            "reason": enums.FIRMWARE_STATUS_REASON_NO_SLOTS,
            "content": bytes(8),
            "rollback_floor": 0,
            "text": b"this board has no slots; flash it by cable",
        },
    )
