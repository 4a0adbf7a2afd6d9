"""Connection supervisor: brings up modem, SIM, network, PDP context and session, and recovers them.

`level` is what the supervisor currently brings up. After a failure it takes the next recovery step of that level;
`recovery_step` is the highest step taken since the connection last worked. A successful publish resets all levels. A
broker that answers but refuses the session is retried with back-off only: no recovery step would change its answer.

A broker that closes several sessions in a row soon after their start does so because another client has the same id
(MQTT 3.1.1, 3.1.4-2). Each of the two would end the other's session for ever, so the intervals grow although frames
are acknowledged in between.
"""

import patrolink_enums as enums
from compat.stream import PeerRefusedError
from patrolink_protocol.native import const

_RECOVERY = (  # of each level, in order; the last step is followed by the first
    (enums.DEVICE_STATUS_RUNG_RETRY, enums.DEVICE_STATUS_RUNG_MODEM_RESET),
    (
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_RADIO,
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_MODEM_RESET,
    ),
    (
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_RADIO,
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_MODEM_RESET,
    ),
    (
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_PDP,
        enums.DEVICE_STATUS_RUNG_RADIO,
        enums.DEVICE_STATUS_RUNG_MODEM_RESET,
    ),
    (
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_RETRY,
        enums.DEVICE_STATUS_RUNG_REOPEN,
        enums.DEVICE_STATUS_RUNG_PDP,
        enums.DEVICE_STATUS_RUNG_RADIO,
        enums.DEVICE_STATUS_RUNG_MODEM_RESET,
    ),
)
# How long a level has to fail before each step: a broker that restarts or a loss of coverage does not justify the heavy
# ones. The times double, up to _DELAY_FACTOR_MAX times, whenever all steps of a level have failed.
_MIN_FAILING_MS = (0, 0, 10000, 30000, 120000, 300000, 0)
_DELAY_FACTOR_MAX = const(8)
_SEARCH_MS = const(90000)  # a search for a network takes up to a minute
_CLOSED = const(-1)  # umqtt's OSError when the broker has closed the stream
_QUERY_MS = const(5000)  # between two queries of the registration
_SHORT_LOSS_MS = const(10000)  # a TCP session survives a loss of coverage as long as this
_RETRY_NOW_MS = const(1000)
# Longest back-off while an event is due: a single device does not overload the broker.
_URGENT_WAIT_MAX_MS = const(5000)
_SHORT_SESSION_MS = const(20000)
_SHORT_SESSIONS_MAX = const(2)  # in a row; a further one is taken for another client with the same id
_TAKEN_OVER_WAIT_MS = const(15000)  # doubles with each further short session, up to 2 min
_TAKEN_OVER_DOUBLINGS = const(3)
_SIGNAL_MS = const(60000)
_BOARD_RESET_INTERVAL_MS = const(3600000)  # a board with a dead modem still has to record
_BOARD_RESET_AFTER = const(3)  # modem resets without an answer
_LEVEL_NAMES = ("modem", "SIM", "network", "PDP context", "session", "up")
_STEP_NAMES = ("", "retry", "reopening sockets", "new PDP context", "radio restart", "modem reset", "board reset")


class Supervisor:
    """State machine of the connection to the broker.

    Args:
        session: agent.link.session.Session.
        sources: Objects with peek() -> frame or None, and acknowledge(); the most urgent first.
        modem: agent.modem.driver.Modem, or None on a board with a network stack.
        backoff: agent.link.backoff.Backoff.
        net: compat.stream.Network.
        log: Function of one string.
        reset: Function that resets the board.
        on_network_time: Function (day, ms of the day, monotonic ms) that takes the time of the network, or None.
        on_session: Function called when a session has begun, or None.
        urgent: Function that returns whether an event is due, or None.
        on_published: Function called with each frame that the broker has acknowledged, or None.

    Attributes:
        level: device_status.link: what is brought up next, or LINK_UP.
        recovery_step: device_status.rung: the highest step since the connection last worked.
        signal_dbm: Last signal strength in dBm, or None.
    """

    def __init__(
        self,
        session,
        sources,
        modem,
        backoff,
        net,
        log,
        reset,
        on_network_time=None,
        on_session=None,
        urgent=None,
        on_published=None,
    ):
        self._session = session
        self._sources = sources
        self._modem = modem
        self._faults = session.faults + modem.faults if modem else session.faults
        self._backoff = backoff
        self._net = net
        self._log = log
        self._reset = reset
        self._on_network_time = on_network_time
        self._on_session = on_session
        self._urgent = urgent
        self._on_published = on_published
        self.level = enums.DEVICE_STATUS_LINK_SESSION if modem is None else enums.DEVICE_STATUS_LINK_MODEM
        self.recovery_step = enums.DEVICE_STATUS_RUNG_WELL
        self.signal_dbm = None
        self._shutting_down = False
        self._failures = [0] * enums.DEVICE_STATUS_LINK_UP
        self._failing_since_ms = 0
        self._delay_factor = 1
        self._retry_at_ms = 0
        self._level_since_ms = self._start_ms = net.now_ms()
        self._query_at_ms = 0
        self._lost_at_ms = None
        self._short_sessions = 0  # in a row, closed by the broker
        self._signal_at_ms = 0

    def retry_now(self):
        """End a long back-off because urgent data waits: the next attempt is at most one second away."""
        self._retry_at_ms = min(self._retry_at_ms, self._net.now_ms() + _RETRY_NOW_MS)

    def shut_down(self):
        """Take no recovery step but retries from now on: the board is about to be switched off."""
        self._shutting_down = True

    def step(self):
        """Take the next step. Returns True when a frame was published, so that another one may be waiting."""
        if self._modem is not None:
            self._modem.poll()
            self._follow_modem()
        now_ms = self._net.now_ms()
        if now_ms < self._retry_at_ms:
            return False
        try:
            if self.level == enums.DEVICE_STATUS_LINK_UP:
                return self._serve()
            self._raise_level(now_ms)
        except self._faults as e:
            if e is self._net.bug:
                raise
            self._fail(e)
        return False

    def _follow_modem(self):
        """Fall back to the level that the modem reports as lost."""
        modem = self._modem
        level = enums.DEVICE_STATUS_LINK_UP
        if not modem.ready:
            level = enums.DEVICE_STATUS_LINK_MODEM
        elif not modem.sim:
            level = enums.DEVICE_STATUS_LINK_SIM
        elif not modem.registered:
            level = enums.DEVICE_STATUS_LINK_NETWORK
        elif not modem.pdp:
            level = enums.DEVICE_STATUS_LINK_PDP
        if level == enums.DEVICE_STATUS_LINK_NETWORK and self.level == enums.DEVICE_STATUS_LINK_UP:
            # In a lift or a tunnel: do nothing for a while, because the session may survive.
            now_ms = self._net.now_ms()
            if self._lost_at_ms is None:
                self._lost_at_ms = now_ms
                self._log("link: network lost")
            if now_ms - self._lost_at_ms < _SHORT_LOSS_MS:
                return
        self._lost_at_ms = None
        if level < self.level:
            if self.level == enums.DEVICE_STATUS_LINK_UP:
                self._session.drop()
            self._enter(level)
            self._retry_at_ms = 0

    def _enter(self, level):
        self.level = level
        self._level_since_ms = self._net.now_ms()
        self._query_at_ms = 0

    def _raise_level(self, now_ms):
        modem = self._modem
        level = self.level
        if level == enums.DEVICE_STATUS_LINK_MODEM:
            modem.start()
        elif level == enums.DEVICE_STATUS_LINK_SIM:
            modem.check_sim()
        elif level == enums.DEVICE_STATUS_LINK_NETWORK:
            if not modem.registered:
                self._search(now_ms)
                return
            modem.read_operator()
            self._log("link: registered with %s%s" % (modem.operator, " (roaming)" if modem.roaming else ""))
            network_time = modem.network_time()
            if network_time is not None and self._on_network_time is not None:
                self._on_network_time(network_time[0], network_time[1], self._net.now_ms())
            self._backoff.reset()
        elif level == enums.DEVICE_STATUS_LINK_PDP:
            if not modem.pdp:  # it may have survived a loss of the network
                modem.pdp_up()
        else:
            self._session.connect()
            if self._on_session is not None:
                self._on_session()
        self._enter(level + 1)

    def _search(self, now_ms):
        if now_ms >= self._query_at_ms:
            self._query_at_ms = now_ms + _QUERY_MS
            self._modem.read_registration()
        if not self._modem.registered and now_ms - self._level_since_ms > _SEARCH_MS:
            self._level_since_ms = now_ms
            self._recover("not registered within %d s" % (_SEARCH_MS // 1000), False)

    def _serve(self):
        if self._lost_at_ms is not None:
            return False
        for source in self._sources:
            frame = source.peek()
            if frame is not None:
                self._session.publish(frame)
                if self._on_published is not None:
                    self._on_published(frame)
                source.acknowledge()
                self._succeed()
                return True
        if self._session.keep_alive():
            self._succeed()
        if self._modem is not None and self._net.now_ms() >= self._signal_at_ms:
            self._signal_at_ms = self._net.now_ms() + _SIGNAL_MS
            self.signal_dbm = self._modem.signal_dbm()
        return False

    def _succeed(self):
        if self.recovery_step != enums.DEVICE_STATUS_RUNG_WELL or any(self._failures):
            self.recovery_step = enums.DEVICE_STATUS_RUNG_WELL
            self._delay_factor = 1
            self._failures = [0] * enums.DEVICE_STATUS_LINK_UP
        self._backoff.reset()

    def _fail(self, error):
        reason = "session lost" if self.level == enums.DEVICE_STATUS_LINK_UP else "no %s" % _LEVEL_NAMES[self.level]
        taken_over_ms = 0
        if self.level == enums.DEVICE_STATUS_LINK_UP:
            taken_over_ms = self._count_short_session(error)
            self._enter(enums.DEVICE_STATUS_LINK_SESSION)
        self._session.drop()
        self._recover("%s (%s)" % (reason, describe(error)), isinstance(error, PeerRefusedError), taken_over_ms)

    def _count_short_session(self, error):
        """Return the least wait in ms after a session that failed, 0 without a sign of a second client."""
        if self._net.now_ms() - self._level_since_ms > _SHORT_SESSION_MS:
            self._short_sessions = 0
        elif error.args and error.args[0] == _CLOSED:  # a reset may come from the network
            self._short_sessions += 1
        excess = self._short_sessions - _SHORT_SESSIONS_MAX
        if excess <= 0:
            return 0
        self._log(
            "link: the broker closed %d sessions in a row soon after their start: does another device use this id? "
            "Give each device its own id and key" % self._short_sessions
        )
        return _TAKEN_OVER_WAIT_MS << min(excess - 1, _TAKEN_OVER_DOUBLINGS)

    def _recover(self, reason, refused, least_wait_ms=0):
        step = self._next_step(refused)
        self.recovery_step = max(self.recovery_step, step)
        # A search has its own interval, and a network that it finds is used at once.
        wait_ms = 0 if self.level == enums.DEVICE_STATUS_LINK_NETWORK else self._backoff.next_ms() + least_wait_ms
        if self._urgent is not None and self._urgent():
            wait_ms = min(wait_ms, _URGENT_WAIT_MAX_MS)
        self._log("link: %s; %s, next attempt in %d ms" % (reason, _STEP_NAMES[step], wait_ms))
        modem = self._modem
        if step == enums.DEVICE_STATUS_RUNG_PDP:
            modem.pdp_down()
        elif step == enums.DEVICE_STATUS_RUNG_REOPEN:
            modem.close_sockets()
        elif step == enums.DEVICE_STATUS_RUNG_RADIO:
            modem.restart_radio()
        elif step == enums.DEVICE_STATUS_RUNG_MODEM_RESET:
            modem.reset()
        elif step == enums.DEVICE_STATUS_RUNG_BOARD_RESET:
            self._reset()
        self._retry_at_ms = self._net.now_ms() + wait_ms

    def _next_step(self, refused):
        """Count a failure of the current level and return the recovery step that is due."""
        level = self.level
        steps = _RECOVERY[level]
        now_ms = self._net.now_ms()
        if self.recovery_step == enums.DEVICE_STATUS_RUNG_WELL:
            self._failing_since_ms = now_ms
        step = steps[self._failures[level] % len(steps)]
        if refused or self._shutting_down or self._modem is None:
            step = enums.DEVICE_STATUS_RUNG_RETRY
        if (
            level >= enums.DEVICE_STATUS_LINK_NETWORK
            and now_ms - self._failing_since_ms < _MIN_FAILING_MS[step] * self._delay_factor
        ):
            return enums.DEVICE_STATUS_RUNG_RETRY
        self._failures[level] += 1
        if step == enums.DEVICE_STATUS_RUNG_MODEM_RESET:
            self._failing_since_ms = now_ms
            self._delay_factor = min(2 * self._delay_factor, _DELAY_FACTOR_MAX)
        if level == enums.DEVICE_STATUS_LINK_MODEM and self._failures[level] > len(steps) * _BOARD_RESET_AFTER:
            if now_ms - self._start_ms >= _BOARD_RESET_INTERVAL_MS:
                return enums.DEVICE_STATUS_RUNG_BOARD_RESET
        return step

    def close(self):
        """Disconnect from the broker."""
        self._session.close()


def describe(error):
    """Return the type and the text of an error, for a log line."""
    text = str(error)
    return type(error).__name__ + (" " + text if text else "")
