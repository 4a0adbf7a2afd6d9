"""Our own agent as a testee of the conformance kit, on the boards that can be emulated."""
