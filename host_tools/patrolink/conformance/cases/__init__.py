"""Cases, one module per area, each with `cases() -> list[Case]`; `suite.load` finds the modules by listing."""
