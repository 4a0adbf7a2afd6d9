"""HMAC-SHA256 and the keys derived from a device key, against values computed with OpenSSL."""

from binascii import unhexlify

from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import derive_key, hmac, hmac_pads, live_view_context

KEY = bytes(range(32))


def test_hmac_matches_rfc_4231_cases_1_and_2():
    mac = hmac(hmac_pads(b"\x0b" * 20), b"Hi ", b"There")
    assert mac == unhexlify("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    mac = hmac(hmac_pads(b"Jefe"), b"what do ya want for nothing?")
    assert mac == unhexlify("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")


def test_derived_keys_match_openssl():
    assert derive_key(KEY, b"patrolink-up", 7) == unhexlify(
        "b6b967154c1d02d44e0af02fd1ff6c42a2a836079cbb6ca3ae48cd4acb3524d5"
    )
    assert derive_key(KEY, b"patrolink-ptt-wrap", 0xFFFFFFFF) == unhexlify(
        "3096ac3246146fe3d7115b1d69773bcbef6103004daded22efcae5e5c49ddb15"
    )
    assert derive_key(KEY, b"patrolink-live-up", 3, live_view_context(0x80000001, 1789000000000)) == unhexlify(
        "d33cfea05e852cfefb4885055e7abd2cb86d0b0622fc5d00962582191188deed"
    )


def test_label_epoch_and_context_each_change_the_key():
    contexts = [live_view_context(*ids) for ids in ((1, 2), (2, 2), (1, 3), (1, 2 + (1 << 32)))]
    keys = [derive_key(KEY, b"patrolink-up", epoch) for epoch in (0, 1)]
    keys += [derive_key(KEY, b"patrolink-live-up", 0, context) for context in contexts]
    keys.append(derive_key(KEY, b"patrolink-live-down", 0, contexts[0]))
    assert len(set(keys)) == len(keys)


def test_srtp_master_is_the_first_30_bytes():
    key, salt = srtp.derive_master(KEY, b"patrolink-ptt-up", 3)
    assert (len(key), len(salt)) == (16, 14)
    assert derive_key(KEY, b"patrolink-ptt-up", 3)[:30] == key + salt
