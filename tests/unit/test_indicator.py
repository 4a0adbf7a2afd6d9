"""Indicators of a device: a lamp that camera and microphone share."""

from agent.wearer.indicator import Indicators


class Pin:
    """Output that refuses to be set while it has a fault."""

    def __init__(self):
        self.levels = []
        self.fault = False

    def set(self, level):
        if self.fault:
            raise OSError(5, "I/O error")
        self.levels.append(level)

    def get(self):
        return bool(self.levels and self.levels[-1])


def test_a_lamp_is_on_while_any_user_needs_it():
    pin = Pin()
    indicators = Indicators(lambda where: pin)
    camera, microphone = indicators.add_user("led"), indicators.add_user("led")
    camera.set(1)
    microphone.set(1)
    microphone.set(0)
    assert camera.get() and pin.levels[-1] == 1
    camera.set(0)
    assert not camera.get() and not microphone.get()


def test_lamps_at_different_places_are_separate():
    pins = {"red": Pin(), "yellow": Pin()}
    indicators = Indicators(lambda where: pins[where])
    camera, microphone = indicators.add_user("red"), indicators.add_user("yellow")
    camera.set(1)
    assert pins["red"].get() and not pins["yellow"].get() and not microphone.get()


def test_a_user_switches_off_a_lamp_that_an_earlier_boot_left_on():
    pin = Pin()
    pin.levels.append(1)
    Indicators(lambda where: pin).add_user("led").set(0)
    assert pin.levels == [1, 0]


def test_a_fault_of_the_output_reaches_the_user():
    pin = Pin()
    user = Indicators(lambda where: pin).add_user("led")
    pin.fault = True
    try:
        user.set(1)
    except OSError:
        pin.fault = False
    assert not pin.fault and not user.get()


def test_a_user_of_another_thread_that_needs_the_lamp_meanwhile_keeps_it_on():
    class SlowPin(Pin):
        def set(self, level):
            Pin.set(self, level)
            if level == 0 and not camera.level:
                camera.set(1)  # its thread was faster than this one
                self.levels.append(0)  # and this one writes last

    pin = SlowPin()
    indicators = Indicators(lambda where: pin)
    camera, microphone = indicators.add_user("led"), indicators.add_user("led")
    microphone.set(1)
    microphone.set(0)
    assert pin.get()
