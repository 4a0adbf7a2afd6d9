"""The server of the console: login, sessions, origins, headers, and rejected requests."""

import json

import aiohttp
import pytest
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.logins import SESSION_S, LoginSessions
from patrolink.hub.infra.attempt_limiter import ATTEMPT_INTERVAL_S, MAX_ATTEMPTS, TooManyAttemptsError

from tests.support.simulated_site import CONSOLE_PORT, CONSOLE_URL, SimulatedSite, site_text
from tests.support.site_file import DEVICES, DISPATCHERS, GROUPS, TOKEN

SITE = site_text(GROUPS + DISPATCHERS, hub=f'console = "127.0.0.1:{CONSOLE_PORT}"')
DUTY = Dispatcher(name="duty", token_sha256="0" * 64)


def test_wrong_tokens_are_limited_per_address_and_expire():
    sessions = LoginSessions(lambda token: {"right": DUTY}.get(token))
    for _ in range(MAX_ATTEMPTS):
        assert sessions.authenticate("10.0.0.1", "wrong", 0) is None
    with pytest.raises(TooManyAttemptsError) as rejected:
        sessions.authenticate("10.0.0.1", "wrong", 1)
    assert 0 < rejected.value.retry_s <= ATTEMPT_INTERVAL_S
    assert sessions.authenticate("10.0.0.1", "right", 1) is DUTY, "nobody can lock a dispatcher out"
    assert sessions.authenticate("10.0.0.2", "wrong", 1) is None, "other addresses must not be limited"
    assert sessions.authenticate("10.0.0.1", "wrong", ATTEMPT_INTERVAL_S) is None, "one more attempt is permitted"
    with pytest.raises(TooManyAttemptsError):
        sessions.authenticate("10.0.0.1", "wrong", ATTEMPT_INTERVAL_S)
    assert sessions.authenticate("10.0.0.1", "right", 10 * ATTEMPT_INTERVAL_S) is DUTY


def test_addresses_of_an_ipv6_network_count_as_one():
    sessions = LoginSessions(lambda token: None)
    for i in range(MAX_ATTEMPTS):
        sessions.authenticate(f"2001:db8::{i}", "wrong", 0)
    with pytest.raises(TooManyAttemptsError):
        sessions.authenticate("2001:db8::ffff", "wrong", 0)
    assert sessions.authenticate("2001:db8:0:1::1", "wrong", 0) is None


def test_session_ends_at_its_expiry_or_by_logout():
    sessions = LoginSessions(lambda token: None)
    secret = sessions.open(DUTY, 100)
    ends = []
    cancel = sessions.get(secret, 100).on_end(lambda: ends.append("cancelled"))
    sessions.get(secret, 100).on_end(lambda: ends.append("logout"))
    cancel()
    assert sessions.get(secret, 100 + SESSION_S) is None and sessions.get("", 100) is None
    sessions.close(secret)
    assert ends == ["logout"] and sessions.get(secret, 100) is None


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    simulated = SimulatedSite(tmp_path_factory.mktemp("site"), SITE, DEVICES)
    yield simulated
    simulated.close()


def cookie(site: SimulatedSite, token: str = TOKEN) -> str:
    status, headers, _ = site.http_request("POST", "/login", {"token": token})
    assert status == 204
    return headers["Set-Cookie"].split(";")[0]


def test_login_sets_a_cookie_that_scripts_and_other_sites_cannot_read(site):
    status, headers, _ = site.http_request("POST", "/login", {"token": TOKEN})
    assert status == 204
    flags = [part.strip() for part in headers["Set-Cookie"].split(";")]
    assert "HttpOnly" in flags and "SameSite=Strict" in flags and "Path=/" in flags
    assert TOKEN not in headers["Set-Cookie"]
    assert site.http_request("GET", "/session", Cookie=flags[0])[2] == '{"name": "duty"}'
    assert site.http_request("GET", "/session")[2] == '{"name": null}'


def test_every_response_has_the_security_headers(site):
    for path in ("/", "/page/console.js", "/session", "/socket", "/nothing", "/metrics"):
        _, headers, _ = site.http_request("GET", path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_files_outside_of_the_page_are_not_served(site):
    session_cookie = cookie(site)
    for path in ("/page/..%2fsite.py", "/page/../site.py", "/recordings/..%2f..%2fkeys.toml", "/keys.toml"):
        assert site.http_request("GET", path, Cookie=session_cookie)[0] == 404


def test_wrong_login_is_rejected_limited_and_audited(tmp_path, capfd):
    own_site = SimulatedSite(tmp_path, SITE, DEVICES)
    for body in ({}, [], "text", {"token": None}):
        assert own_site.http_request("POST", "/login", body)[0] == 400
    responses = [own_site.http_request("POST", "/login", {"token": "guess"}) for _ in range(MAX_ATTEMPTS + 1)]
    assert responses[0][0] == 401
    assert responses[-1][0] == 429 and int(responses[-1][1]["Retry-After"]) > 0
    assert own_site.http_request("POST", "/login", {"token": TOKEN})[0] == 204
    own_site.close()
    rows = (tmp_path / "state" / "shard-0" / "audit.jsonl").read_text()
    assert [json.loads(line)["what"] for line in rows.splitlines()] == ["login refused"] * MAX_ATTEMPTS + ["login"]
    # Neither right nor wrong tokens are logged.
    logs = rows + "".join(capfd.readouterr())
    assert "guess" not in logs and TOKEN not in logs


def test_other_origin_cannot_use_a_session(site):
    session_cookie = cookie(site)
    for origin in ("https://evil.example", f"http://localhost:{CONSOLE_PORT}", "null", ""):
        assert site.http_request("POST", "/login", {"token": TOKEN}, Origin=origin)[0] == 403
        assert site.http_request("POST", "/logout", Cookie=session_cookie, Origin=origin)[0] == 403
        assert handshake(site, {"Cookie": session_cookie, "Origin": origin}) == 403
    assert handshake(site, {"Origin": CONSOLE_URL}) == 401, "no session"
    assert handshake(site, {"Authorization": "Bearer wrong"}) == 401
    assert handshake(site, {"Cookie": session_cookie, "Origin": CONSOLE_URL}) == 101
    assert site.http_request("GET", "/recordings/20260101T000000.000Z-1-00000001")[0] == 401


def handshake(site: SimulatedSite, headers: dict[str, str]) -> int:
    """Open the WebSocket and return the HTTP status."""

    async def run() -> int:
        async with aiohttp.ClientSession(connector=site.connector()) as session:
            try:
                async with session.ws_connect(CONSOLE_URL + "/socket", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as e:
                return e.status

    return site.run(run())


def test_logout_closes_the_socket(site):
    session_cookie = cookie(site)

    async def run() -> int:
        headers = {"Cookie": session_cookie, "Origin": CONSOLE_URL}
        async with (
            aiohttp.ClientSession(connector=site.connector()) as session,
            session.ws_connect(CONSOLE_URL + "/socket", headers=headers) as ws,
        ):
            assert (await ws.receive_json())["name"] == "duty"
            async with session.post(CONSOLE_URL + "/logout", headers=headers) as response:
                assert response.status == 204
            while (message := await ws.receive()).type != aiohttp.WSMsgType.CLOSE:
                pass
            return message.data

    assert site.run(run()) == 4401


def test_invalid_requests_are_rejected_with_a_reason(site):
    cases = {
        "not JSON": "not JSON",
        '{"do": "listen", "id": 1}': "group",
        '{"do": "listen", "id": 1, "group": 99}': "no group 99",
        '{"do": "listen", "id": 1, "group": "1"}': "group",
        '{"do": "listen", "id": 1, "group": true}': "group",
        '{"do": "fly", "id": 1}': "fly",
        "[]": "request",
        "[" * 5000: "not JSON",
        '{"do": "private", "id": 1, "device": "nobody"}': "nobody",
        '{"do": "command", "id": 1, "device": "vest-1", "action": "dance"}': "no command 'dance'",
        '{"do": "command", "id": 1, "device": "vest-1", "action": "call", "value": "ambient"}': "use listen_in",
        '{"do": "listen_in", "id": 1, "device": "vest-1", "reason": "curious"}': "does not permit",
        '{"do": "make_group", "id": 1, "name": "x", "devices": []}': "devices",
        '{"do": "make_group", "id": 1, "name": "x", "devices": ["nobody"]}': "nobody",
        '{"do": "answer_event", "id": 1, "device": "vest-1", "event_id": 9, "state": "accepted"}': "no open event 9",
        '{"do": "end_group", "id": 1, "group": 1}': "1",
    }

    async def run() -> None:
        async with aiohttp.ClientSession(connector=site.connector()) as session:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with session.ws_connect(CONSOLE_URL + "/socket", headers=headers) as ws:
                await ws.receive_json()
                for request, reason in cases.items():
                    await ws.send_str(request)
                    message = await ws.receive_json()
                    assert message["type"] == "refused" and reason in message["error"], (request, message)
                # Voice without the floor, of an unknown group, or without samples is ignored.
                for voice in (bytes(4), bytes((0, 0, 0, 1)) + bytes(160), bytes((0, 0, 0, 99)) + bytes(160), b""):
                    await ws.send_bytes(voice)
                await ws.send_str('{"do": "recordings", "id": 7}')
                message = await ws.receive_json()
                assert message == {"type": "reply", "id": 7, "result": message["result"]}

    site.run(run())
