# Frozen modules: MicroPython's asyncio, the mount of the file system, and the agent with its protocol. build.sh creates
# AGENT from device/ (without modules that only processes use), protocol/ and umqtt.
include("$(MPY_DIR)/extmod/asyncio")
freeze("$(BOARD_DIR)/modules")
freeze("$(AGENT)")
