"""Contract of the Tokens port: what we signed is accepted for its audience until it expires, and nothing else is."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.adapters.jwt_tokens import JwtTokens
from shared.core.clock import ManualClock
from shared.core.errors import Unauthenticated, Unavailable
from shared.core.ports import Secrets, Tokens
from tests.fakes.secrets import FakeSecrets

ISSUER = "http://localhost:7071"
NESTED = base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".e30.x"


class SlowSecrets(FakeSecrets):
    """Lets others run in the middle of every call, as a network does."""

    async def get(self, name: str) -> str | None:
        await asyncio.sleep(0.001)
        return await super().get(name)

    async def put(self, name: str, value: str) -> None:
        await asyncio.sleep(0.001)
        await super().put(name, value)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def secrets() -> Secrets:
    return FakeSecrets()


@pytest.fixture
def tokens(secrets: Secrets, clock: ManualClock) -> Tokens:
    return JwtTokens(secrets, ISSUER, clock)


async def forged(secrets: Secrets, clock: ManualClock, **changes: Any) -> str:
    """Signed with the right key, but with claims of the test's choosing; None leaves a claim out."""
    pem = await secrets.get("token-signing-key")
    assert pem
    kid = (await JwtTokens(secrets, ISSUER, clock).jwks())["keys"][0]["kid"]
    now = int(clock.now().timestamp())
    claims = {"iss": ISSUER, "aud": "api", "sub": "u1", "iat": now, "exp": now + 60} | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, pem, "ES256", headers={"kid": kid})


class TestSign:
    async def test_a_signed_token_verifies_with_all_its_claims(self, tokens: Tokens) -> None:
        claims = await tokens.verify(await tokens.sign("api", "u1", {"session": "s1"}, 60), "api")
        assert claims["sub"] == "u1"
        assert claims["session"] == "s1"
        assert claims["exp"] - claims["iat"] == 60

    async def test_anyone_can_verify_it_with_the_published_keys(self, tokens: Tokens) -> None:
        token = await tokens.sign("api", "u1", {}, 60)
        jwks = await tokens.jwks()
        assert "d" not in jwks["keys"][0]
        key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, ["ES256"], audience="api", options={"verify_exp": False})
        assert claims["iss"] == ISSUER

    @pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp", "nbf"])
    async def test_registered_claims_cannot_be_overridden(self, tokens: Tokens, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            await tokens.sign("api", "u1", {name: "x"}, 60)


class TestVerify:
    async def test_it_expires_by_the_clock(self, tokens: Tokens, clock: ManualClock) -> None:
        token = await tokens.sign("api", "u1", {}, 60)
        clock.advance(59)
        await tokens.verify(token, "api")
        clock.advance(1)
        with pytest.raises(Unauthenticated, match="expired"):
            await tokens.verify(token, "api")

    async def test_another_audience_is_refused(self, tokens: Tokens) -> None:
        with pytest.raises(Unauthenticated):
            await tokens.verify(await tokens.sign("run", "u1", {}, 60), "api")

    async def test_another_issuer_on_the_same_key_is_refused(
        self, tokens: Tokens, secrets: Secrets, clock: ManualClock
    ) -> None:
        other = await JwtTokens(secrets, "https://other.example", clock).sign("api", "u1", {}, 60)
        with pytest.raises(Unauthenticated):
            await tokens.verify(other, "api")

    @pytest.mark.parametrize(
        "changes",
        [
            *({name: None} for name in ("iss", "aud", "sub", "iat", "exp")),
            {"exp": "4102444800"},
            {"exp": True},
            {"exp": 1e12},
            {"iat": 4102444800},
            {"sub": ""},
            {"sub": 7},
            {"aud": ["api", "other"]},
        ],
        ids=str,
    )
    async def test_missing_or_odd_claims_are_refused(
        self, tokens: Tokens, secrets: Secrets, clock: ManualClock, changes: dict[str, Any]
    ) -> None:
        await tokens.jwks()
        await tokens.verify(await forged(secrets, clock), "api")
        with pytest.raises(Unauthenticated):
            await tokens.verify(await forged(secrets, clock, **changes), "api")

    async def test_a_token_of_another_key_is_refused(self, tokens: Tokens, clock: ManualClock) -> None:
        await tokens.jwks()
        stranger = await JwtTokens(FakeSecrets(), ISSUER, clock).sign("api", "u1", {}, 60)
        with pytest.raises(Unauthenticated):
            await tokens.verify(stranger, "api")

    async def test_a_strangers_signature_under_our_key_id_is_refused(self, tokens: Tokens, clock: ManualClock) -> None:
        ours = (await tokens.jwks())["keys"][0]["kid"]
        key = ec.generate_private_key(ec.SECP256R1())
        now = int(clock.now().timestamp())
        claims = {"iss": ISSUER, "aud": "api", "sub": "u1", "iat": now, "exp": now + 60}
        with pytest.raises(Unauthenticated):
            await tokens.verify(jwt.encode(claims, key, "ES256", headers={"kid": ours}), "api")

    async def test_neither_none_nor_hmac_with_the_public_key_passes(self, tokens: Tokens, clock: ManualClock) -> None:
        token = await tokens.sign("api", "u1", {}, 60)
        jwk = (await tokens.jwks())["keys"][0]
        payload = token.split(".")[1]
        for alg in ("none", "HS256"):
            header = _encoded({"alg": alg, "typ": "JWT", "kid": jwk["kid"]})
            signature = "" if alg == "none" else _hmac(f"{header}.{payload}", json.dumps(jwk))
            with pytest.raises(Unauthenticated):
                await tokens.verify(f"{header}.{payload}.{signature}", "api")

    @pytest.mark.parametrize("change", [0, 1, 2])
    async def test_a_changed_token_is_refused(self, tokens: Tokens, change: int) -> None:
        parts = (await tokens.sign("api", "u1", {}, 60)).split(".")
        parts[change] = parts[change][:-6] + ("AAAAAA" if not parts[change].endswith("AAAAAA") else "BBBBBB")
        with pytest.raises(Unauthenticated):
            await tokens.verify(".".join(parts), "api")

    @pytest.mark.parametrize(
        "text",
        ["", "x", "a.b.c", "ü.é.ß", "e30.e30.", "bnVsbA.e30.x", "\ud800", "." * 5000, NESTED],
        ids=lambda text: ascii(text)[:12],
    )
    async def test_rubbish_is_refused(self, tokens: Tokens, text: str) -> None:
        with pytest.raises(Unauthenticated):
            await tokens.verify(text, "api")


class TestKey:
    async def test_it_survives_a_restart(self, tokens: Tokens, secrets: Secrets, clock: ManualClock) -> None:
        token = await tokens.sign("api", "u1", {}, 60)
        await JwtTokens(secrets, ISSUER, clock).verify(token, "api")

    async def test_processes_starting_together_end_up_with_one_key(self, clock: ManualClock) -> None:
        secrets = SlowSecrets()
        processes = [JwtTokens(secrets, ISSUER, clock) for _ in range(5)]
        signed = await asyncio.gather(*(process.sign("api", "u1", {}, 60) for process in processes))
        for process in processes:
            await asyncio.gather(*(process.verify(token, "api") for token in signed))

    async def test_a_process_whose_key_was_overwritten_takes_up_the_kept_one(
        self, tokens: Tokens, secrets: Secrets, clock: ManualClock
    ) -> None:
        await tokens.jwks()
        await secrets.delete("token-signing-key")
        kept = await JwtTokens(secrets, ISSUER, clock).sign("api", "u1", {}, 60)
        clock.advance(10)
        await tokens.verify(kept, "api")
        assert await tokens.jwks() == await JwtTokens(secrets, ISSUER, clock).jwks()

    async def test_a_damaged_key_is_reported_and_not_replaced(self, tokens: Tokens, secrets: Secrets) -> None:
        await secrets.put("token-signing-key", "rubbish")
        with pytest.raises(Unavailable, match="token-signing-key"):
            await tokens.sign("api", "u1", {}, 60)
        assert await secrets.get("token-signing-key") == "rubbish"


def _encoded(value: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _hmac(text: str, key: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha256)).rstrip(b"=").decode()
