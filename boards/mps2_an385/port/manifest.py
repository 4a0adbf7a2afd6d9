# What is frozen: the interpreter's asyncio, this board's start, and the agent with its protocol. AGENT is laid out by
# build.sh: device/ without what only processes need, protocol/, umqtt.
include("$(MPY_DIR)/extmod/asyncio")
freeze("$(PORT_DIR)/modules")
freeze("$(AGENT)")
