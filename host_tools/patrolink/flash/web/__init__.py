"""The web flasher: a page that writes an agent image to one device through WebSerial."""
