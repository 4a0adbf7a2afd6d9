/* What a device must not forget: counters, key epochs, and an alarm that is not answered yet. They are in one file. */
#ifndef COUNTERS_H
#define COUNTERS_H

#include "patrolink.h"

typedef struct {
    uint32_t boot;        /* number of this boot */
    uint32_t epoch;       /* key epoch of frames to the hub */
    uint32_t up_limit;    /* counters of frames to the hub: all below may have been used */
    uint32_t down_epoch;  /* key epoch of the last frame from the hub */
    int64_t down_highest; /* highest counter of it; -1: none */
    uint32_t event_id;      /* of the last event */
    uint32_t event_counter; /* counter of its frame: a repetition is the same frame again */
    uint8_t event_answered;
    size_t event_len; /* length of its body; 0: no event is open */
    uint8_t event[128];
} counters;

/* Read the file; false if it exists but cannot be used. A missing file is that of a new device. */
bool counters_load(const char *path, counters *c);

/* Replace the file. It holds either the old or the new values, also after a power cut; false if it could not be written. */
bool counters_save(const char *path, const counters *c);

#endif
