/* What the device does for the hub: commands, texts, firmware, and the certification mode. */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "device.h"

/* Act on a message from the hub. */
void requests_act(device *d, const pl_message *message, int64_t now_ms);

/* Do what is due: the end of the certification mode, and of a rotation of the key. */
void requests_run(device *d, int64_t now_ms);

#endif
