"""Voice on the host: sound files, devices and bursts."""
