"""The hub's link to a real broker: nothing acknowledged is lost, nothing retained acts, a backlog comes in portions."""

import asyncio
import itertools
import secrets

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from patrolink.emulator.network.broker import Broker as BrokerProcess
from patrolink.hub.infra.mqtt_connection import _FRAMES_PER_TURN, MqttConnection
from patrolink.hub.infra.persistence import installation_id
from patrolink.transport.mqtt import MqttTransport

from tests.support.polling import TIMEOUT_S, wait_until


@pytest.fixture
def publish(broker):
    """Return a function that publishes a frame of dev-1 and waits for the broker's acknowledgement."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish_frame(data: bytes, retain: bool = False) -> None:
        client.publish("p/dev-1/u", data, qos=1, retain=retain).wait_for_publish(TIMEOUT_S)

    yield publish_frame
    publish_frame(b"", retain=True)  # removes a retained frame
    client.loop_stop()
    client.disconnect()


@pytest.fixture
def session(tmp_path):
    return installation_id(tmp_path / "session.json", "test-", secrets.token_bytes)


def received(transport: MqttTransport, n: int, acknowledge: bool) -> list[bytes]:
    """Return the next `n` frames."""
    frames = []
    for record in transport.records():
        if record is not None:
            frames.append(record.frame)
            if acknowledge:
                transport.acknowledge()
        if len(frames) == n:
            return frames
    return frames


def test_session_id_is_kept(tmp_path, session):
    assert installation_id(tmp_path / "session.json", "test-", secrets.token_bytes) == session
    assert installation_id(tmp_path / "other.json", "test-", secrets.token_bytes) != session


def test_frames_are_kept_while_the_client_is_away_and_until_they_are_acknowledged(broker, publish, session):
    transport = MqttTransport(broker.url, session=session)
    publish(b"one")
    publish(b"two")
    assert received(transport, 2, acknowledge=False) == [b"one", b"two"]
    transport.close()
    publish(b"three")
    transport = MqttTransport(broker.url, session=session)
    assert received(transport, 3, acknowledge=True) == [b"one", b"two", b"three"]
    publish(b"four")
    assert received(transport, 1, acknowledge=True) == [b"four"]
    transport.close()
    publish(b"five")
    transport = MqttTransport(broker.url, session=session)
    assert received(transport, 1, acknowledge=True) == [b"five"], "acknowledged frames must not come again"
    transport.close()


def test_acknowledgement_of_an_earlier_connection_is_not_sent(broker, publish, session):
    """The same message id may be that of another frame by then."""
    transport = MqttTransport(broker.url, session=session)
    publish(b"one")
    assert received(transport, 1, acknowledge=False) == [b"one"]
    connections = transport._connection
    transport._client.reconnect()
    wait_until(lambda: transport._connection > connections)
    assert received(transport, 1, acknowledge=False) == [b"one"]
    transport.acknowledge()  # the copy of the first connection
    transport.close()
    transport = MqttTransport(broker.url, session=session)
    assert received(transport, 1, acknowledge=True) == [b"one"]
    transport.close()


def test_retained_frame_is_ignored(broker, publish):
    publish(b"old", retain=True)
    transport = MqttTransport(broker.url)
    publish(b"new")
    assert received(transport, 1, acknowledge=False) == [b"new"]
    transport.close()


def test_backlog_is_processed_in_portions(broker, publish, session):
    """Between two portions the event loop relays voice."""
    MqttTransport(broker.url, session=session).close()
    for i in range(200):
        publish(bytes([i]))
    frames: list[tuple[int, bytes]] = []
    turns = itertools.count()
    turn = 0

    async def run() -> None:
        nonlocal turn
        done = asyncio.Event()

        def on_uplink(record) -> None:
            frames.append((turn, record.frame))
            if len(frames) == 200:
                done.set()

        def next_turn() -> None:
            nonlocal turn
            turn = next(turns)
            asyncio.get_running_loop().call_soon(next_turn)

        link = MqttConnection(broker.url, session, {}, on_uplink)
        await link.open()
        next_turn()
        await asyncio.wait_for(done.wait(), TIMEOUT_S)
        await link.close()

    asyncio.run(run())
    assert [frame for _, frame in frames] == [bytes([i]) for i in range(200)]
    portions = [len(list(group)) for _, group in itertools.groupby(frames, key=lambda item: item[0])]
    assert max(portions) <= _FRAMES_PER_TURN


def test_frame_that_causes_an_error_is_not_delivered_for_ever(broker, publish, session):
    frames = []

    async def run() -> None:
        done = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

        def on_uplink(record) -> None:
            frames.append(record.frame)
            if record.frame == b"bad":
                raise ValueError("a bug")
            done.set()

        link = MqttConnection(broker.url, session, {}, on_uplink)
        await link.open()
        await asyncio.to_thread(publish, b"bad")
        await asyncio.to_thread(publish, b"good")
        await asyncio.wait_for(done.wait(), TIMEOUT_S)
        await link.close()

    asyncio.run(run())
    publish(b"later")
    transport = MqttTransport(broker.url, session=session)
    assert frames == [b"bad", b"good"] and received(transport, 1, acknowledge=True) == [b"later"]
    transport.close()


def test_broker_without_persistence_is_no_error(session):
    """Amqtt has sessions in memory only."""
    process = BrokerProcess(embedded=True)
    try:
        transport = MqttTransport(process.url, session=session)
        transport.close()
    finally:
        process.stop()
