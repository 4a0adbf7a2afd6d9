"""Methods that write an image to a device, one class each."""
