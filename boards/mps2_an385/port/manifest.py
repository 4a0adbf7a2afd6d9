# Frozen modules: MicroPython's asyncio, the start of this board, and the agent with its protocol. build.sh creates
# AGENT from device/ (without modules that only processes use), protocol/ and umqtt.
include("$(MPY_DIR)/extmod/asyncio")
freeze("$(PORT_DIR)/modules")
freeze("$(AGENT)")
