"""The way to the hub, held up: modem, SIM, network, data context, session. One state machine for all of it.

`level` is what it waits for. A failure takes the next remedy of that level's ladder; `rung` is the heaviest one so far,
and success at the top begins all ladders anew. A broker that answers but refuses is waited for with back-off: no remedy
below it would help.
"""

from compat.stream import PeerRefusedError

MODEM, SIM, NETWORK, PDP, SESSION, UP = range(6)
WELL, RETRY, REOPEN, PDP_DOWN, RADIO, MODEM_RESET, BOARD_RESET = range(7)

_LADDERS = (
    (RETRY, MODEM_RESET),
    (RETRY, RADIO, RETRY, MODEM_RESET),
    (RETRY, RADIO, RETRY, RETRY, MODEM_RESET),
    (RETRY, RETRY, PDP_DOWN, RADIO, MODEM_RESET),
    (RETRY, RETRY, REOPEN, PDP_DOWN, RADIO, MODEM_RESET),
)
# How long a level has failed before each remedy is due: a broker that restarts, a cellar, are no reason for the heavy
# ones. Doubled, up to _CALM times, whenever a ladder has been gone through in vain.
_PATIENCE_MS = (0, 0, 10000, 30000, 120000, 300000, 0)
_CALM = 8
_SEARCH_MS = 90000  # a search for a network takes up to a minute
_ASK_MS = 5000
_SHORT_LOSS_MS = 10000  # a TCP session outlives this
_HURRY_MS = 1000
_URGENT_MS = 5000  # longest back-off while an event waits: one wearer in need is no herd
_SIGNAL_MS = 60000
_BOARD_RESET_MS = 3600000  # not oftener: a dead modem must not make the board useless too
_BOARD_RESET_AFTER = 3  # modem resets without an answer
_NAMES = ("modem", "sim", "network", "data context", "session", "up")
_REMEDIES = ("", "retry", "reopen", "new data context", "radio restart", "modem reset", "board reset")


class Supervisor:
    """
    session   link.session.Session
    sources   objects with peek() -> frame or None, and acknowledge(): most urgent first
    modem     modem.driver.Modem, or None on a board with a network stack
    reset     function that resets the board
    """

    def __init__(self, session, sources, modem, backoff, net, log, reset):
        self._session = session
        self._sources = sources
        self._modem = modem
        self._faults = session.faults + modem.faults if modem else session.faults
        self._backoff = backoff
        self._net = net
        self._log = log
        self._reset = reset
        self.level = SESSION if modem is None else MODEM
        self.rung = WELL
        self.on_clock = None  # function(day, ms): takes the network's time
        self.on_session = None  # function(): a session has begun
        self.urgent = None  # function(): something urgent waits
        self.leaving = False  # the power goes soon: no remedy that takes its time
        self._failures = [0] * UP
        self._failing_since = 0
        self._calm = 1
        self._retry_at = 0
        self._since = net.now_ms()  # at this level
        self._ask_at = 0
        self._lost_at = None
        self._start_ms = net.now_ms()
        self._signal_at = 0
        self.signal_dbm = None

    def retry_now(self):
        """Something urgent waits: do not sit out a long back-off."""
        self._retry_at = min(self._retry_at, self._net.now_ms() + _HURRY_MS)

    def step(self):
        """Do the next useful thing; True when a frame went out, so that there may be another one."""
        if self._modem is not None:
            self._modem.poll()
            self._follow_modem()
        now = self._net.now_ms()
        if now < self._retry_at:
            return False
        try:
            if self.level == UP:
                return self._serve()
            self._climb(now)
        except self._faults as e:
            if e is self._net.bug:
                raise
            self._failed(e)
        return False

    def _follow_modem(self):
        """Fall to the level that the modem says it has lost."""
        modem = self._modem
        has = UP
        if not modem.ready:
            has = MODEM
        elif not modem.sim:
            has = SIM
        elif not modem.registered:
            has = NETWORK
        elif not modem.pdp:
            has = PDP
        if has == NETWORK and self.level == UP:
            # A lift, a tunnel: hold still, the session may live on.
            now = self._net.now_ms()
            if self._lost_at is None:
                self._lost_at = now
                self._log("link: network lost")
            if now - self._lost_at < _SHORT_LOSS_MS:
                return
        self._lost_at = None
        if has < self.level:
            if self.level == UP:
                self._session.hang_up()
            self._enter(has)
            self._retry_at = 0

    def _enter(self, level):
        self.level = level
        self._since = self._net.now_ms()
        self._ask_at = 0

    def _climb(self, now):
        modem = self._modem
        level = self.level
        if level == MODEM:
            modem.start()
        elif level == SIM:
            modem.check_sim()
        elif level == NETWORK:
            if not modem.registered:
                self._search(now)
                return
            modem.read_operator()
            self._log("link: %s %s" % ("roaming on" if modem.roaming else "on", modem.operator))
            at = modem.network_time()
            if at is not None and self.on_clock is not None:
                self.on_clock(*at)
            self._backoff.reset()
        elif level == PDP:
            if not modem.pdp:  # it may have outlived a loss of the network
                modem.pdp_up()
        else:
            self._session.connect()
            if self.on_session is not None:
                self.on_session()
        self._enter(level + 1)

    def _search(self, now):
        if now >= self._ask_at:
            self._ask_at = now + _ASK_MS
            self._modem.read_registration()
        if not self._modem.registered and now - self._since > _SEARCH_MS:
            self._since = now
            self._remedy("not registered in %d s" % (_SEARCH_MS // 1000), False)

    def _serve(self):
        if self._lost_at is not None:
            return False
        for source in self._sources:
            frame = source.peek()
            if frame is not None:
                self._session.publish(frame)
                source.acknowledge()
                self._well()
                return True
        if self._session.keep_alive():
            self._well()
        if self._modem is not None and self._net.now_ms() >= self._signal_at:
            self._signal_at = self._net.now_ms() + _SIGNAL_MS
            self.signal_dbm = self._modem.signal_dbm()
        return False

    def _well(self):
        if self.rung != WELL or any(self._failures):
            self.rung = WELL
            self._calm = 1
            self._failures = [0] * UP
        self._backoff.reset()

    def _failed(self, error):
        what = "session lost" if self.level == UP else "no %s" % _NAMES[self.level]
        if self.level == UP:
            self._enter(SESSION)
        self._session.hang_up()
        self._remedy("%s (%s)" % (what, tell(error)), isinstance(error, PeerRefusedError))

    def _remedy(self, why, refused):
        level = self.level
        ladder = _LADDERS[level]
        now = self._net.now_ms()
        if self.rung == WELL:
            self._failing_since = now
        rung = RETRY if refused or self.leaving or self._modem is None else ladder[self._failures[level] % len(ladder)]
        if level >= NETWORK and now - self._failing_since < _PATIENCE_MS[rung] * self._calm:
            rung = RETRY
        else:
            self._failures[level] += 1
            if rung == MODEM_RESET:
                self._failing_since = now
                self._calm = min(2 * self._calm, _CALM)
        if level == MODEM and self._failures[level] > len(ladder) * _BOARD_RESET_AFTER:
            if now - self._start_ms >= _BOARD_RESET_MS:
                rung = BOARD_RESET
        self.rung = max(self.rung, rung)
        # A search takes its own time, and what it finds is not to wait.
        wait = 0 if level == NETWORK else self._backoff.next_ms()
        if self.urgent is not None and self.urgent():
            wait = min(wait, _URGENT_MS)
        self._log("link: %s; %s, next attempt in %d ms" % (why, _REMEDIES[rung], wait))
        modem = self._modem
        if rung == PDP_DOWN:
            modem.pdp_down()
        elif rung == REOPEN:
            modem.close_sockets()
        elif rung == RADIO:
            modem.restart_radio()
        elif rung == MODEM_RESET:
            modem.reset()
        elif rung == BOARD_RESET:
            self._reset()
        self._retry_at = self._net.now_ms() + wait

    def close(self):
        """Disconnect politely."""
        self._session.close()


def tell(error):
    """An error for a log line."""
    text = str(error)
    return type(error).__name__ + (" " + text if text else "")
