#include "requests.h"

#include <stdio.h>
#include <string.h>

enum { CERTIFY_SECONDS_MAX = 3600 };

/* --- commands -------------------------------------------------------------------------------------------------- */

static void answer(device *d, uint32_t command_id, uint8_t result, uint32_t ref, const char *text, int64_t now_ms)
{
    pl_message message;
    memset(&message, 0, sizeof message);
    message.type = PL_ANSWER;
    message.as.answer.command_id = command_id;
    message.as.answer.result = result;
    message.as.answer.time_ms = device_unix_ms(d, now_ms);
    message.as.answer.ref = ref;
    message.as.answer.text.len = (uint8_t)strlen(text);
    memcpy(message.as.answer.text.data, text, strlen(text));
    device_send(d, &message);
}

/* Answer `started` under the old key, and wait: frames under it must be acknowledged before the next key is used. */
static void start_rotation(device *d, const pl_command *command, int64_t now_ms)
{
    uint32_t epoch = d->state.epoch;
    if (d->rotating) {
        answer(d, command->command_id, PL_ANSWER_RESULT_BUSY, epoch, "", now_ms);
    } else if (epoch == UINT32_MAX || command->number != epoch + 1) {
        answer(d, command->command_id, PL_ANSWER_RESULT_REFUSED, epoch, "not the next epoch", now_ms);
    } else {
        answer(d, command->command_id, PL_ANSWER_RESULT_STARTED, epoch, "", now_ms);
        d->rotation_id = command->command_id;
        d->rotating = true;
    }
}

static void finish_rotation(device *d, int64_t now_ms)
{
    if (!d->rotating || d->out.frames || d->event_unacknowledged)
        return;
    d->rotating = false;
    uint8_t result = device_rotate_key(d) ? PL_ANSWER_RESULT_DONE : PL_ANSWER_RESULT_FAILED;
    answer(d, d->rotation_id, result, d->state.epoch, "", now_ms);
}

static void execute(device *d, const pl_command *command, int64_t now_ms)
{
    uint8_t result = PL_ANSWER_RESULT_DONE;
    const char *text = "";
    char line[80];
    snprintf(line, sizeof line, "command %u from %.*s", command->action, command->operator_.len,
             (const char *)command->operator_.data);
    d->ports.audit(d->ports.context, line);
    if (!device_clock_is_set(d)) {
        result = PL_ANSWER_RESULT_REFUSED;
        text = "the clock is not set, so the expiry cannot be checked";
    } else if (device_unix_ms(d, now_ms) > command->expires_ms) {
        result = PL_ANSWER_RESULT_EXPIRED;
    } else if (command->action == PL_COMMAND_ACTION_LOCATE) {
        if (!device_send_positions(d, now_ms))
            result = PL_ANSWER_RESULT_FAILED;
    } else if (command->action == PL_COMMAND_ACTION_STATUS) {
        if (!device_send_status(d, now_ms))
            result = PL_ANSWER_RESULT_FAILED;
    } else if (command->action == PL_COMMAND_ACTION_ROTATE_KEY) {
        start_rotation(d, command, now_ms);
        return;
    } else {
        result = PL_ANSWER_RESULT_UNSUPPORTED;
    }
    answer(d, command->command_id, result, PL_ANSWER_REF_UNKNOWN, text, now_ms);
}

/* --- firmware -------------------------------------------------------------------------------------------------- */

/* This device has no slots for images, so it refuses each; a repetition of a command gets the same answer. */
static void refuse_firmware(device *d, const pl_firmware *request, int64_t now_ms)
{
    pl_message message;
    if (d->firmware_reason == PL_FIRMWARE_STATUS_REASON_NONE || request->command_id != d->firmware_id) {
        bool expired = device_clock_is_set(d) && device_unix_ms(d, now_ms) > request->expires_ms;
        d->firmware_id = request->command_id;
        d->firmware_reason = expired ? PL_FIRMWARE_STATUS_REASON_EXPIRED : PL_FIRMWARE_STATUS_REASON_NO_SLOTS;
        d->ports.audit(d->ports.context, "firmware refused");
    }
    memset(&message, 0, sizeof message);
    message.type = PL_FIRMWARE_STATUS;
    message.as.firmware_status.command_id = request->command_id;
    message.as.firmware_status.state = PL_FIRMWARE_STATUS_STATE_REFUSED;
    message.as.firmware_status.reason = d->firmware_reason;
    message.as.firmware_status.content.len = sizeof message.as.firmware_status.content.data;
    device_send(d, &message);
}

/* --- certification mode ---------------------------------------------------------------------------------------- */

static bool enter(device *d, uint16_t seconds, int64_t now_ms)
{
    if (seconds > CERTIFY_SECONDS_MAX)
        seconds = CERTIFY_SECONDS_MAX;
    if (!d->ports.audit(d->ports.context, "certification: enter"))
        return false;
    d->certify_end_ms = now_ms + seconds * INT64_C(1000);
    return true;
}

static void leave(device *d)
{
    d->certify_end_ms = 0;
    d->ports.audit(d->ports.context, "certification: leave");
}

/* Decode a message and encode it again. Returns the number of bytes, 0 if the device refuses it. */
static uint8_t encode_again(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    pl_message message;
    size_t body_len;
    if (len == 0 || data[0] == PL_POSITION_BATCH || pl_decode(data[0], data + 1, len - 1, &message) != PL_OK ||
        pl_encode(&message, out + 1, size - 1, &body_len) != PL_OK)
        return 0;
    out[0] = data[0];
    return (uint8_t)(1 + body_len);
}

static void certify(device *d, const pl_certify *request, int64_t now_ms)
{
    pl_message message;
    pl_certify *result = &message.as.certify;
    memset(&message, 0, sizeof message);
    if (request->operation == PL_CERTIFY_OPERATION_ENTER) {
        if (!enter(d, request->seconds, now_ms))
            return;
    } else if (!d->certify_end_ms) {
        return; /* outside of the mode nothing else is done */
    } else if (request->operation == PL_CERTIFY_OPERATION_LEAVE) {
        leave(d);
    } else if (request->operation == PL_CERTIFY_OPERATION_ECHO) {
        memcpy(result->payload.data, request->payload.data, result->payload.len = request->payload.len);
    } else if (request->operation == PL_CERTIFY_OPERATION_SEND_VECTOR) {
        result->payload.len = encode_again(request->payload.data, request->payload.len, result->payload.data,
                                           sizeof result->payload.data);
    } else if (request->operation == PL_CERTIFY_OPERATION_POWER_CUT) {
        if (d->ports.audit(d->ports.context, "certification: power cut"))
            d->ports.restart(d->ports.context);
        return;
    } else if (request->operation != PL_CERTIFY_OPERATION_REPORT_COUNTERS) {
        return;
    }
    message.type = PL_CERTIFY;
    result->operation = PL_CERTIFY_OPERATION_RESULT;
    if (d->certify_end_ms)
        result->seconds = (uint16_t)((d->certify_end_ms - now_ms) / 1000);
    result->frames_accepted = d->accepted;
    result->frames_refused = d->refused;
    device_send(d, &message);
}

/* --------------------------------------------------------------------------------------------------------------- */

static void confirm_text(device *d, const pl_text *text, int64_t now_ms)
{
    pl_message message;
    memset(&message, 0, sizeof message);
    message.type = PL_TEXT_STATE;
    message.as.text_state.text_id = text->text_id;
    message.as.text_state.state = PL_TEXT_STATE_STATE_RECEIVED;
    message.as.text_state.time_ms = device_unix_ms(d, now_ms);
    device_send(d, &message);
}

void requests_act(device *d, const pl_message *message, int64_t now_ms)
{
    if (message->type == PL_COMMAND)
        execute(d, &message->as.command, now_ms);
    else if (message->type == PL_FIRMWARE)
        refuse_firmware(d, &message->as.firmware, now_ms);
    else if (message->type == PL_CERTIFY)
        certify(d, &message->as.certify, now_ms);
    else if (message->type == PL_TEXT && message->as.text.ack != PL_TEXT_ACK_NONE)
        confirm_text(d, &message->as.text, now_ms);
}

void requests_run(device *d, int64_t now_ms)
{
    if (d->certify_end_ms && now_ms >= d->certify_end_ms)
        leave(d);
    finish_rotation(d, now_ms);
}
