"""Infrastructure of the hub: broker, persistence, metrics, audit, HTTP."""
