// Uses the C codec from C++: encodes a command, and prints its length.
#include "patrolink.h"

#include <cstdio>
#include <cstring>

int main()
{
    static pl_message message;
    uint8_t body[PL_MAX_FRAME];
    size_t len = 0;
    message.type = PL_COMMAND;
    message.as.command.action = PL_COMMAND_ACTION_LOCATE;
    message.as.command.expires_ms = 1700000000000;
    message.as.command.operator_.len = 4;
    std::memcpy(message.as.command.operator_.data, "desk", 4);
    message.as.command.number = PL_COMMAND_NUMBER_UNKNOWN;
    if (pl_encode(&message, body, sizeof body, &len) != PL_OK)
        return 1;
    std::printf("%zu\n", len);
}
