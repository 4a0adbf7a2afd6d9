// Empty: the scanner finds all names of this port.
