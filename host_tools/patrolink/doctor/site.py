"""Checks of a site: its file, keys, certificates, ports and broker."""

import contextlib
import io
import os
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

from patrolink.core import keys
from patrolink.core.errors import UserError
from patrolink.core.posix import readable_by_others
from patrolink.doctor.finding import OK, PROBLEM, WARNING, Finding
from patrolink.doctor.network_ports import NetworkPort

_BROKER_TIMEOUT_S = 5
_EXPIRY_WARNING_DAYS = 30
_DAY_S = 86_400


def check_expiry(name: str, start_s: float, end_s: float, now_s: float) -> Finding:
    """Return the finding about the validity of a certificate.

    Args:
        name: File or address of the certificate.
        start_s: Start of its validity, Unix seconds.
        end_s: End of its validity, Unix seconds.
        now_s: Time of day, Unix seconds.
    """
    end = datetime.fromtimestamp(end_s, timezone.utc).strftime("%Y-%m-%d")
    fix = "renew it at its authority, then restart the server"
    if end_s < now_s:
        return Finding(PROBLEM, "certificate", f"{name}: expired on {end}", fix)
    if now_s < start_s:
        return Finding(PROBLEM, "certificate", f"{name}: not valid yet", "correct the clock, or wait")
    days = int((end_s - now_s) / _DAY_S)
    level = WARNING if days < _EXPIRY_WARNING_DAYS else OK
    return Finding(level, "certificate", f"{name}: expires on {end}, in {days} days", fix if level == WARNING else "")


def check_certificate(path: Path, now_s: float) -> Finding:
    """Return the finding about the first certificate in a PEM file."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as e:
        return Finding(PROBLEM, "certificate", f"{path}: {e.strerror}", "correct console_certificate in the site file")
    except ValueError:
        return Finding(PROBLEM, "certificate", f"{path}: not a certificate in PEM format", "replace the file")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return check_expiry(str(path), start.timestamp(), end.timestamp(), now_s)


def check_secret_file(path: Path) -> Finding:
    """Return the finding about the permissions of a file with secrets."""
    try:
        mode = path.stat().st_mode
    except OSError as e:
        return Finding(PROBLEM, "secrets", f"{path}: {e.strerror}", "correct the site file")
    if not os.access(path, os.R_OK):
        return Finding(PROBLEM, "secrets", f"{path}: not readable", "run the hub as the owner of the file")
    if readable_by_others(mode):
        return Finding(WARNING, "secrets", f"{path} can be read by others", f"run `chmod 600 '{path}'`")
    return Finding(OK, "secrets", f"{path} is readable by its owner only")


def check_broker(url: str, now_s: float) -> Iterator[Finding]:
    """Connect to a broker; yield findings about the connection and the validity of its certificate."""
    parts = urlsplit(url)
    secure = parts.scheme == "mqtts"
    host, port = parts.hostname or "", parts.port or (8883 if secure else 1883)
    name = f"{host}:{port}"
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host, port), _BROKER_TIMEOUT_S))
            if secure:
                tls = ssl.create_default_context()
                connection = stack.enter_context(tls.wrap_socket(connection, server_hostname=host))
                validity = connection.getpeercert() or {}
                start, end = (ssl.cert_time_to_seconds(str(validity[key])) for key in ("notBefore", "notAfter"))
                yield check_expiry(f"broker {name}", start, end, now_s)
    except ssl.SSLCertVerificationError as e:
        fix = "renew the certificate, or set SSL_CERT_FILE to the file of its authority"
        yield Finding(PROBLEM, "broker", f"{name}: the certificate is not accepted ({e.verify_message})", fix)
    except OSError as e:
        fix = "start the broker, or correct `broker` in the site file"
        yield Finding(PROBLEM, "broker", f"{name}: no connection ({e.strerror or e})", fix)
    else:
        yield Finding(OK, "broker", f"{name}: accepts connections")


def ports_of(hubs: "list[dict[str, object]]") -> list[NetworkPort]:
    """Return the ports that the hubs of a site listen on."""
    ports = []
    for hub in hubs:
        for name, protocol in (("console", "tcp"), ("uploads", "tcp"), *((f"{n}_port", "udp") for n in _UDP)):
            number = int(str(hub[name] or 0).rpartition(":")[2])
            if number:
                ports.append(NetworkPort(protocol, number, "hub", required=True))
    return ports


_UDP = ("floor", "media", "live")


def check_all(path: Path) -> tuple[list[Finding], list[NetworkPort]]:
    """Check a site file and what it names.

    Returns:
        The findings, and the ports of the site's hubs.

    Raises:
        OSError: The site file cannot be read.
    """
    try:
        from patrolink.hub import config
    except ModuleNotFoundError as e:
        fix = "run `pip install 'patrolink[hub]'`"
        return [Finding(PROBLEM, "site", f"{path}: not checked, {e.name} is missing", fix)], []
    path.open("rb").close()  # a wrong path is an error of the command line, not a finding
    try:
        site = config.load(path)
    except UserError as e:
        return [Finding(PROBLEM, "site", str(line)) for line in str(e).splitlines()], []
    base, now_s = path.resolve().parent, time.time()
    findings = [Finding(OK, "site", f"{path}: {len(site.hub)} hubs, {len(site.group)} groups")]
    findings += [check_secret_file(base / name) for name in (site.keys, site.evidence_key) if name]
    with contextlib.redirect_stderr(io.StringIO()):  # the permissions are a finding already
        try:
            devices = keys.load(base / site.keys)
        except UserError as e:
            devices = None
            findings.append(Finding(PROBLEM, "keys", str(e)))
    members = {name for group in site.group for member in group.member for name in member.devices}
    for name in sorted(members - devices.keys()) if devices is not None else ():
        fix = f"add its key to {site.keys}, or remove it from the group"
        findings.append(Finding(PROBLEM, "keys", f"device {name} has no key", fix))
    for hub in site.hub:
        if hub.console_certificate:
            findings.append(check_certificate(base / hub.console_certificate, now_s))
            findings.append(check_secret_file(base / hub.console_key))
    findings += check_broker(site.broker, now_s)
    return findings, ports_of([hub.model_dump() for hub in site.hub])
