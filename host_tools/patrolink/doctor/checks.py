"""All checks, in the order of the report."""

from pathlib import Path

from patrolink.doctor import network_ports, packages, programs, serial_ports, system_clock
from patrolink.doctor.finding import Finding


def run(site: Path | None) -> list[Finding]:
    """Check this machine, and a site if one is named."""
    findings = packages.check_all() + programs.check_all() + serial_ports.check_all() + system_clock.check_all()
    ports = list(network_ports.DEFAULT_PORTS)
    if site is not None:
        from patrolink.doctor import site as site_checks  # pydantic takes a tenth of a second

        site_findings, hub_ports = site_checks.check_all(site)
        findings += site_findings
        ports = [port for port in ports if port.owner == "broker"] + hub_ports
    return findings + network_ports.check_ports(ports, network_ports.users(ports))
