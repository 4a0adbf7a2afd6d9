"""Mount the file system."""

import gc

from esp32 import Partition
from hal.baremetal.file_system import mount

mount(Partition.find(Partition.TYPE_DATA, label="vfs")[0])
gc.collect()
