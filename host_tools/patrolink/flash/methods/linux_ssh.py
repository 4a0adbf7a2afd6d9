"""Method `linux`: an agent image into a slot of a Linux camera, through ssh.

The session program of the camera's platform executes the same requests as the receiver of a board. The agent goes on
until the camera has accepted the image; it is started again when the session ends, also if the connection breaks.
"""

import secrets

from patrolink.flash.methods.serial_console import SerialMethod
from patrolink.flash.serial_session import NUMBERS, SerialSession
from patrolink.flash.ssh_link import SshLink

_ANSWER_S, _STOP_S, _CONNECT_S = 30.0, 150.0, 30.0


class LinuxMethod(SerialMethod):
    """Writes an agent image.

    Args:
        port: Address for ssh.
        cancel: Set when the operator stops the command.
        image: The image.
    """

    def release(self) -> None:
        """See `Method.release`: the agent is started with the new image."""
        super().release()
        assert isinstance(self._link, SshLink)
        self._link.wait_end()

    def _connect(self) -> SerialSession:
        link = SshLink(self.port, self._cancel)
        self._link = link
        session = SerialSession(link, secrets.randbelow(NUMBERS), _ANSWER_S, _STOP_S)
        session.open(_CONNECT_S)
        self._session = session
        return session
