#define _POSIX_C_SOURCE 200809L
#include "counters.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool counters_load(const char *path, counters *c)
{
    unsigned byte;
    char end = 0;
    memset(c, 0, sizeof *c);
    c->down_highest = -1;
    FILE *file = fopen(path, "r");
    if (!file)
        return errno == ENOENT;
    int fields = fscanf(file, "boot %" SCNu32 " epoch %" SCNu32 " up %" SCNu32, &c->boot, &c->epoch, &c->up_limit);
    fields += fscanf(file, " down %" SCNu32 " %" SCNd64, &c->down_epoch, &c->down_highest);
    fields += fscanf(file, " event %" SCNu32 " %" SCNu32 " %" SCNu8 " :", &c->event_id, &c->event_counter, &c->event_answered);
    while (c->event_len < sizeof c->event && fscanf(file, "%2x", &byte) == 1)
        c->event[c->event_len++] = (uint8_t)byte;
    /* The period shows that the file is complete: a counter that was lost would be used twice. */
    bool is_whole = fields == 8 && fscanf(file, " %c", &end) == 1 && end == '.';
    fclose(file);
    return is_whole;
}

/* Make the new name of a file survive a power cut. */
static bool sync_folder_of(char *path)
{
    int folder = open(dirname(path), O_RDONLY);
    bool done = folder >= 0 && fsync(folder) == 0;
    if (folder >= 0)
        close(folder);
    return done;
}

bool counters_save(const char *path, const counters *c)
{
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary)
        return false;
    FILE *file = fopen(temporary, "w");
    if (!file)
        return false;
    fprintf(file, "boot %" PRIu32 " epoch %" PRIu32 " up %" PRIu32 "\n", c->boot, c->epoch, c->up_limit);
    fprintf(file, "down %" PRIu32 " %" PRId64 "\n", c->down_epoch, c->down_highest);
    fprintf(file, "event %" PRIu32 " %" PRIu32 " %" PRIu8 " :", c->event_id, c->event_counter, c->event_answered);
    for (size_t i = 0; i < c->event_len; i++)
        fprintf(file, "%02x", c->event[i]);
    fprintf(file, ".\n");
    bool written = fflush(file) == 0 && fsync(fileno(file)) == 0;
    return fclose(file) == 0 && written && rename(temporary, path) == 0 && sync_folder_of(temporary);
}
