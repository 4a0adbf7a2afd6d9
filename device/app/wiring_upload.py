"""Upload of clips to the hub. Loaded only where it is configured."""

from agent.link.backoff import Backoff
from agent.upload.tus import TusClient
from agent.upload.uploader import Uploader, UploadNetwork
from app.wiring_network import open_raw_streams


class UploadBuilder:
    """Builds the uploader of a device.

    Args:
        core: app.wiring_media.Core.

    Raises:
        ConfigError: The certificates of clips.upload.tls cannot be used.
    """

    def __init__(self, core):
        self._core = core
        self._raw = open_raw_streams(core.modem, core.hal, core.config["clips"]["upload"]["tls"], "clips.upload.tls")

    def build(self, queue, unix_ms):
        """Return an agent.upload.uploader.Uploader.

        Args:
            queue: agent.recording.upload_queue.UploadQueue.
            unix_ms: Function (monotonic ms) -> unix ms, 0 while not known.
        """
        core, config = self._core, self._core.config
        settings = config["clips"]["upload"]
        network = UploadNetwork(core.now_ms, core.serve, self._raw, core.event_queue.due_count)
        host = "%s:%d" % (settings["host"], settings["port"])
        client = TusClient(config["key"], config["device"].encode(), config["key_epoch"], host, settings["path"])
        address = (settings["host"], settings["port"])
        backoff = Backoff(core.hal.randbelow)
        faults = core.session.faults if core.modem is None else core.session.faults + core.modem.faults
        return Uploader(queue, client, network, address, settings["kbps"], unix_ms, backoff, core.log, faults)
