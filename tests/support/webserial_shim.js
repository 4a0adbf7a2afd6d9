// Replaces navigator.serial: the port's bytes go through the server of the test. As Chromium's: requestPort() needs a click or key
// press, close() fails while a stream is locked, and a lost device errors both streams.
(() => {
  const call = (name, body) => fetch(`/shim/${name}`, { method: "POST", body });
  const lost = () => new DOMException("The device has been lost.", "NetworkError");

  class ShimPort extends EventTarget {
    readable = null;
    writable = null;
    #reading = null;

    getInfo() {
      return { usbVendorId: 0x10c4, usbProductId: 0xea60 };
    }

    async open({ baudRate }) {
      if (!(baudRate > 0)) throw new TypeError("baudRate");
      if (this.readable || this.writable) throw new DOMException("The port is already open.", "InvalidStateError");
      if (!(await call("open")).ok) throw new DOMException("Failed to open serial port.", "NetworkError");
      let isOpen = true;
      const lose = () => {
        isOpen = false;
        this.readable = this.writable = null;
        return lost();
      };
      this.readable = new ReadableStream({
        pull: async controller => {
          while (isOpen) {
            this.#reading = call("read");
            const response = await this.#reading;
            if (!isOpen) return;
            if (!response.ok) return controller.error(lose());
            const data = new Uint8Array(await response.arrayBuffer());
            if (data.length) return controller.enqueue(data);
          }
        },
        cancel: () => {
          isOpen = false;
          this.readable = null;
        },
      }, { highWaterMark: 0 });
      this.writable = new WritableStream({
        write: async data => {
          if (!(await call("write", data)).ok) throw lose();
        },
      });
    }

    async close() {
      if (this.readable?.locked || this.writable?.locked) throw new TypeError("Cannot cancel a locked stream");
      this.readable = this.writable = null;
      await this.#reading; // it must not take bytes of the next time
      await call("close");
    }
  }

  const serial = new EventTarget();
  serial.requestPort = async () => {
    if (!navigator.userActivation.isActive) {
      throw new DOMException("Must be handling a user gesture to show a permission request.", "SecurityError");
    }
    if (!(await call("choose")).ok) throw new DOMException("No port selected by the user.", "NotFoundError");
    return new ShimPort();
  };
  Object.defineProperty(Navigator.prototype, "serial", { value: serial });
})();
