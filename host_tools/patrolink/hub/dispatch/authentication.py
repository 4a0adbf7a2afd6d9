"""Authentication at the console: a browser has a session cookie, a tool sends the token in each request.

No token and no session secret is part of an address, so none is logged.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from patrolink.core import untrusted_json
from patrolink.core.clock import Clock
from patrolink.core.timeouts import wait_for
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.logins import SESSION_S, LoginSession, LoginSessions
from patrolink.hub.infra.attempt_limiter import TooManyAttemptsError

_COOKIE = "patrolink"
_BODY_TIMEOUT_S = 5


class Identity(NamedTuple):
    """Who sends a request. `session` is None for a tool."""

    dispatcher: Dispatcher
    session: LoginSession | None


class Authentication:
    """Authenticates requests and serves login and logout.

    Args:
        find_dispatcher: Returns the dispatcher of a token, or None.
        audit: Writes a row to the audit log: (who, what, **facts).
        secure: The console is served over TLS.
        clock: Source of time.
    """

    def __init__(
        self,
        find_dispatcher: Callable[[str], Dispatcher | None],
        audit: Callable[..., None],
        secure: bool,
        clock: Clock,
    ) -> None:
        self._sessions = LoginSessions(find_dispatcher)
        self._audit, self._secure, self._clock = audit, secure, clock

    def attach(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_post("/login", self._login)
        app.router.add_post("/logout", self._logout)
        app.router.add_get("/session", self._session)

    def identify(self, request: web.Request) -> Identity:
        """Return who sends a request.

        Raises:
            HTTPUnauthorized: There is no valid token or session.
            HTTPTooManyRequests: Too many wrong tokens came from the address.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Identity(self._authenticate(request, token.strip()), None)
        session = self._cookie_session(request)
        if session is None:
            raise web.HTTPUnauthorized(text="log in first")
        return Identity(session.dispatcher, session)

    def check_origin(self, request: web.Request) -> None:
        """Reject a request that was sent by the page of another site.

        Raises:
            HTTPForbidden: The request's origin is not the console.
        """
        if request.headers.get("Origin", "") != f"{'https' if self._secure else 'http'}://{request.host}":
            raise web.HTTPForbidden(text="only the console's own page may send this request")

    def remaining_s(self, session: LoginSession) -> float:
        """Return the seconds until a session expires."""
        return max(0.0, session.expires_s - self._now_s())

    def _now_s(self) -> float:
        return self._clock.monotonic_ms() / 1000

    def _cookie_session(self, request: web.Request) -> LoginSession | None:
        return self._sessions.get(request.cookies.get(_COOKIE, ""), self._now_s())

    async def _login(self, request: web.Request) -> web.Response:
        """Exchange a token for a cookie. Only JSON is accepted: a form of another site cannot send it."""
        self.check_origin(request)
        dispatcher = self._authenticate(request, await _read_token(request))
        response = web.Response(status=204)
        response.set_cookie(
            _COOKIE,
            self._sessions.open(dispatcher, self._now_s()),
            max_age=SESSION_S,
            httponly=True,
            secure=self._secure,
            samesite="Strict",
        )
        self._audit(dispatcher.name, "login", address=request.remote)
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        self.check_origin(request)
        self._sessions.close(request.cookies.get(_COOKIE, ""))
        response = web.Response(status=204)
        response.del_cookie(_COOKIE, httponly=True, secure=self._secure, samesite="Strict")
        return response

    async def _session(self, request: web.Request) -> web.Response:
        """Tell the page who is logged in."""
        session = self._cookie_session(request)
        return web.json_response({"name": session.dispatcher.name if session else None})

    def _authenticate(self, request: web.Request, token: str) -> Dispatcher:
        try:
            dispatcher = self._sessions.authenticate(request.remote or "", token, self._now_s())
        except TooManyAttemptsError as e:
            raise web.HTTPTooManyRequests(
                text=f"too many wrong tokens; retry in {e.retry_s} s", headers={"Retry-After": str(e.retry_s)}
            ) from None
        if dispatcher is None:
            self._audit("", "login refused", address=request.remote)
            raise web.HTTPUnauthorized(text="no dispatcher of this site has this token")
        return dispatcher


async def _read_token(request: web.Request) -> str:
    """Return the token in the body of a login, which has to arrive in time: its sender is a stranger."""
    try:
        token = untrusted_json.parse(await wait_for(request.read(), _BODY_TIMEOUT_S))["token"]
        if isinstance(token, str):
            return token
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {_BODY_TIMEOUT_S} s") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise web.HTTPBadRequest(text='the request must be JSON: {"token": "..."}')
