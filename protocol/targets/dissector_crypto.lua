
-- --- SHA-256 (FIPS 180-4), HMAC (RFC 2104), AES-128 in counter mode (FIPS 197, SP 800-38A section 6.5) --------------
-- In plain Lua: Wireshark has no hashes for Lua, and ciphers only from version 4.4 on.

local new_hmac, hmac, new_aes, aes_ctr, bxor

do
    -- Lua 5.2 has the library bit32; Lua 5.4 has operators, which Lua 5.2 cannot parse.
    local bits = bit32
        or load([[return {
            band = function(a, b) return a & b end,
            bxor = function(a, b, c, d, e) return a ~ b ~ (c or 0) ~ (d or 0) ~ (e or 0) end,
            bnot = function(a) return ~a & 0xFFFFFFFF end,
            rshift = function(a, n) return a >> n end,
            rrotate = function(a, n) return (a >> n | a << 32 - n) & 0xFFFFFFFF end,
        }]])()
    local band, bnot, rshift, rrotate = bits.band, bits.bnot, bits.rshift, bits.rrotate
    bxor = bits.bxor
    local WORD = 4294967296
    local byte, char = string.byte, string.char

    local K = {}
    for word in ([[
        428a2f98 71374491 b5c0fbcf e9b5dba5 3956c25b 59f111f1 923f82a4 ab1c5ed5 d807aa98 12835b01 243185be 550c7dc3
        72be5d74 80deb1fe 9bdc06a7 c19bf174 e49b69c1 efbe4786 0fc19dc6 240ca1cc 2de92c6f 4a7484aa 5cb0a9dc 76f988da
        983e5152 a831c66d b00327c8 bf597fc7 c6e00bf3 d5a79147 06ca6351 14292967 27b70a85 2e1b2138 4d2c6dfc 53380d13
        650a7354 766a0abb 81c2c92e 92722c85 a2bfe8a1 a81a664b c24b8b70 c76c51a3 d192e819 d6990624 f40e3585 106aa070
        19a4c116 1e376c08 2748774c 34b0bcb5 391c0cb3 4ed8aa4a 5b9cca4f 682e6ff3 748f82ee 78a5636f 84c87814 8cc70208
        90befffa a4506ceb bef9a3f7 c67178f2]]):gmatch("%x+") do
        K[#K + 1] = tonumber(word, 16)
    end
    local START =
        { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }

    local function be32(value)
        return char(
            math.floor(value / 16777216) % 256,
            math.floor(value / 65536) % 256,
            math.floor(value / 256) % 256,
            value % 256
        )
    end

    local function word_at(text, at)
        local a, b, c, d = byte(text, at, at + 3)
        return ((a * 256 + b) * 256 + c) * 256 + d
    end

    local w = {}
    local function compress(state, text, at)
        for i = 1, 16 do
            w[i] = word_at(text, at + 4 * i - 4)
        end
        for i = 17, 64 do
            local x, y = w[i - 15], w[i - 2]
            w[i] = (
                w[i - 16]
                + bxor(rrotate(x, 7), rrotate(x, 18), rshift(x, 3))
                + w[i - 7]
                + bxor(rrotate(y, 17), rrotate(y, 19), rshift(y, 10))
            ) % WORD
        end
        local a, b, c, d, e, f, g, h = state[1], state[2], state[3], state[4], state[5], state[6], state[7], state[8]
        for i = 1, 64 do
            local t = h
                + bxor(rrotate(e, 6), rrotate(e, 11), rrotate(e, 25))
                + bxor(band(e, f), band(bnot(e), g))
                + K[i]
                + w[i]
            local u = bxor(rrotate(a, 2), rrotate(a, 13), rrotate(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
            h, g, f, e, d, c, b, a = g, f, e, (d + t) % WORD, c, b, a, (t + u) % WORD
        end
        local sums = { a, b, c, d, e, f, g, h }
        for i = 1, 8 do
            sums[i] = (sums[i] + state[i]) % WORD
        end
        return sums
    end

    -- Return the digest of a text after `before` bytes (whole blocks) that led to `state`.
    local function finish(state, before, text)
        local size = before + #text
        text = text .. "\128" .. ("\0"):rep((55 - size) % 64) .. be32(math.floor(size / 536870912)) .. be32(size * 8 % WORD)
        for at = 1, #text, 64 do
            state = compress(state, text, at)
        end
        local out = {}
        for i = 1, 8 do
            out[i] = be32(state[i])
        end
        return table.concat(out)
    end

    -- Return the states after the two pads of a key of at most 64 bytes.
    function new_hmac(key)
        key = key .. ("\0"):rep(64 - #key)
        local function pad(mask)
            local padded = key:gsub(".", function(c)
                return char(bxor(byte(c), mask))
            end)
            return compress(START, padded, 1)
        end
        return { inner = pad(0x36), outer = pad(0x5C) }
    end

    function hmac(key, text)
        return finish(key.outer, 64, finish(key.inner, 64, text))
    end

    local S, T = {}, { {}, {}, {}, {} }
    local function double(x)
        return x < 128 and 2 * x or bxor(2 * x, 0x11B)
    end
    do
        -- FIPS 197 section 5.1.1: the inverse in GF(2^8) by powers of the generator 3, then the affine map.
        local power, exponent, x = {}, {}, 1
        for i = 0, 254 do
            power[i], exponent[x] = x, i
            x = bxor(x, double(x))
        end
        for i = 0, 255 do
            local inverse = i == 0 and 0 or power[(255 - exponent[i]) % 255]
            local s = 0x63
            for turn = 0, 4 do
                s = bxor(s, inverse * 2 ^ turn % 256, math.floor(inverse * 2 ^ turn / 256))
            end
            S[i] = s
            local word = ((double(s) * 256 + s) * 256 + s) * 256 + bxor(s, double(s))
            for column = 1, 4 do
                T[column][i] = word
                word = rrotate(word, 8)
            end
        end
    end

    -- Return the 44 words of the key schedule of a key of 16 bytes.
    function new_aes(key)
        local words, factor = {}, 1
        for i = 1, 4 do
            words[i] = word_at(key, 4 * i - 3)
        end
        for i = 5, 44 do
            local x = words[i - 1]
            if i % 4 == 1 then
                x = S[band(rshift(x, 16), 255)] * 16777216
                    + S[band(rshift(x, 8), 255)] * 65536
                    + S[band(x, 255)] * 256
                    + S[rshift(x, 24)]
                x = bxor(x, factor * 16777216)
                factor = double(factor)
            end
            words[i] = bxor(words[i - 4], x)
        end
        return words
    end

    local function encrypt_block(words, a, b, c, d)
        local T1, T2, T3, T4 = T[1], T[2], T[3], T[4]
        local function mix(p, q, r, s, word)
            return bxor(T1[rshift(p, 24)], T2[band(rshift(q, 16), 255)], T3[band(rshift(r, 8), 255)], T4[band(s, 255)], word)
        end
        local function last(p, q, r, s, word)
            return bxor(
                S[rshift(p, 24)] * 16777216
                    + S[band(rshift(q, 16), 255)] * 65536
                    + S[band(rshift(r, 8), 255)] * 256
                    + S[band(s, 255)],
                word
            )
        end
        a, b, c, d = bxor(a, words[1]), bxor(b, words[2]), bxor(c, words[3]), bxor(d, words[4])
        for i = 5, 40, 4 do
            a, b, c, d = mix(a, b, c, d, words[i]), mix(b, c, d, a, words[i + 1]), mix(c, d, a, b, words[i + 2]), mix(d, a, b, c, words[i + 3])
        end
        return last(a, b, c, d, words[41]), last(b, c, d, a, words[42]), last(c, d, a, b, words[43]), last(d, a, b, c, words[44])
    end

    -- Return the text XORed with the key stream. Counter block: header (5 bytes), 7 zero bytes, number of the block.
    function aes_ctr(words, header, text)
        local out = {}
        local first, second = word_at(header, 1), byte(header, 5) * 16777216
        for block = 0, math.floor((#text - 1) / 16) do
            local stream = { encrypt_block(words, first, second, 0, block) }
            for i = 1, 4 do
                local at = 16 * block + 4 * i - 3
                local part = text:sub(at, at + 3)
                local word = bxor(stream[i], word_at(part .. ("\0"):rep(4 - #part), 1))
                out[#out + 1] = be32(word):sub(1, #part)
            end
        end
        return table.concat(out)
    end
end
