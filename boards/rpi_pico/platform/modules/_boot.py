"""Mount the file system."""

import gc

import rp2
from hal.baremetal.file_system import mount

mount(rp2.Flash())
gc.collect()
