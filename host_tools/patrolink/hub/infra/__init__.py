"""Infrastructure of a hub: broker, downlink, persistence, metrics, audit log, sockets and HTTP servers."""
