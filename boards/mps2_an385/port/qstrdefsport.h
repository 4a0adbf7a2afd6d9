// no names of this port are unknown to the scanner
