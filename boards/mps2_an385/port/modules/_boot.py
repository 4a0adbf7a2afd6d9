"""Mount the file system."""

import gc

import board
from hal.baremetal.file_system import mount

mount(board.Flash())
gc.collect()
