"""Upload of clips to the hub. Loaded only where it is configured."""

from agent.link.backoff import Backoff
from agent.upload.tus import TusClient
from agent.upload.uploader import Uploader, UploadNetwork
from app.wiring_network import open_raw_streams


class UploadBuilder:
    """Builds the uploader of a device.

    Args:
        config: The device configuration.
        hal: The platform.
        modem: agent.modem.driver.Modem, or None.
        now_ms: Function that returns monotonic milliseconds.
        idle: Function called while a connection waits.
        urgent: Function that returns whether an event is due; a wait then ends at once.
        faults: Exception types that a connection may raise.
        log: Function of one string.

    Raises:
        ConfigError: The certificates of clips.upload.tls cannot be used.
    """

    def __init__(self, config, hal, modem, now_ms, idle, urgent, faults, log):
        self._config = config
        self._randbelow = hal.randbelow
        self._now_ms = now_ms
        self._idle = idle
        self._urgent = urgent
        self._faults = faults
        self._log = log
        self._raw = open_raw_streams(modem, config["clips"]["upload"]["tls"], "clips.upload.tls")

    def build(self, queue, unix_ms):
        """Return an agent.upload.uploader.Uploader.

        Args:
            queue: agent.recording.upload_queue.UploadQueue.
            unix_ms: Function (monotonic ms) -> unix ms, 0 while not known.
        """
        config, settings = self._config, self._config["clips"]["upload"]
        network = UploadNetwork(self._now_ms, self._idle, self._raw, self._urgent)
        host = "%s:%d" % (settings["host"], settings["port"])
        client = TusClient(config["key"], config["device"].encode(), config["key_epoch"], host, settings["path"])
        address = (settings["host"], settings["port"])
        backoff = Backoff(self._randbelow)
        return Uploader(queue, client, network, address, settings["kbps"], unix_ms, backoff, self._log, self._faults)
