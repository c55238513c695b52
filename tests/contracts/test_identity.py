"""Contract of IdentityProvider: Entra's adapter, with the real MSAL, against the Entra ID emulator over TLS."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.types import Message, Receive, Scope, Send

from local import certs
from local.certs import Certificates
from local.entra import Client, EntraConfig, User, create_app, demo_users
from shared.adapters.entra import EntraIdentity
from shared.core.clock import SystemClock
from shared.core.errors import Unauthenticated, Unavailable
from shared.core.ports import Identity, SignIn
from tests.serving import base_url, listening_socket, serve

CLIENT, SECRET = "web-client", "s3cret-of-the-web-client"
CALLBACK = "http://localhost:4280/auth/callback"
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class ShiftedClock(SystemClock):
    shift = timedelta()

    def now(self) -> datetime:
        return super().now() + self.shift


@dataclass
class Directory:
    """A served emulator. `edit` changes the claims of id_tokens; `resign` signs them anew and publishes that key."""

    config: EntraConfig
    certificates: Certificates
    clock: ShiftedClock = field(default_factory=ShiftedClock)
    edit: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    rewrite: Callable[[str], str] | None = None

    def identity(self, **changes: Any) -> EntraIdentity:
        options: dict[str, Any] = {
            "authority": self.config.authority,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "allowed_tenants": (self.config.tenant,),
        }
        return EntraIdentity(**(options | changes))

    def app(self) -> Callable[[Scope, Receive, Send], Any]:
        inner = create_app(self.config, self.clock)

        async def tampering(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            if not (self.edit or self.rewrite) or not path.endswith(("/token", "/keys")):
                return await inner(scope, receive, send)
            return await self._tampered(inner, scope, receive, send)

        return tampering

    async def _tampered(self, inner: Any, scope: Scope, receive: Receive, send: Send) -> None:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await inner(scope, receive, keep)
        body = json.loads(b"".join(message.get("body", b"") for message in sent))
        if self.edit and "keys" in body:
            body["keys"] = [_jwk(body["keys"][0]["kid"])]
        if "id_token" in body:
            body["id_token"] = self._changed(body["id_token"])
        data = json.dumps(body).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": sent[0]["status"], "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _changed(self, token: str) -> str:
        if self.edit:
            claims = self.edit(jwt.decode(token, options={"verify_signature": False}))
            token = jwt.encode(claims, STRANGER, "RS256", headers={"kid": jwt.get_unverified_header(token)["kid"]})
        return self.rewrite(token) if self.rewrite else token


def _jwk(kid: str) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}


@asynccontextmanager
async def running(config: EntraConfig, certificates: Certificates, ports: Any = None) -> AsyncGenerator[Directory]:
    secure, plain = ports or (listening_socket(), listening_socket())
    config = replace(
        config, https_url=base_url(secure, tls=True, host="localhost"), http_url=base_url(plain, host="localhost")
    )
    directory = Directory(config, certificates)
    app = directory.app()
    async with serve(app, secure, certfile=certificates.server), serve(app, plain):
        yield directory


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = certs.ensure(tmp_path_factory.mktemp("certs"), os.environ)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


def configuration() -> EntraConfig:
    clients = {
        CLIENT: Client(SECRET, frozenset({CALLBACK})),
        "other-client": Client("other-secret", frozenset({"http://localhost:9999/cb"})),
    }
    return EntraConfig("https://localhost:1", "http://localhost:1", clients)


@pytest.fixture(scope="module")
async def shared_directory(certificates: Certificates) -> AsyncGenerator[Directory]:
    async with running(configuration(), certificates) as directory:
        yield directory


@pytest.fixture
def directory(shared_directory: Directory) -> Any:
    yield shared_directory
    shared_directory.edit = shared_directory.rewrite = None
    shared_directory.clock.shift = timedelta()


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def pick(browser: httpx.AsyncClient, url: str, account: str = "ada@contoso.test") -> dict[str, str]:
    """Submits the account page's form; returns the query of the redirect back to the application."""
    page = await browser.get(url)
    assert page.status_code == 200, page.text
    answer = await browser.post(url, data={"account": account})
    assert answer.status_code == 302, answer.text
    target = urlsplit(answer.headers["location"])
    assert urlunsplit(target._replace(query="")) == CALLBACK
    return dict(parse_qsl(target.query))


async def sign_in(
    directory: Directory,
    browser: httpx.AsyncClient,
    identity: EntraIdentity | None = None,
    account: str = "ada@contoso.test",
) -> Identity:
    identity = identity or directory.identity()
    started = await identity.begin(CALLBACK)
    answer = await pick(browser, started.url, account)
    flow = json.loads(json.dumps(started.flow))
    return await identity.redeem(flow, answer["code"], answer["state"])


def with_query(started: SignIn, **changes: str | None) -> str:
    parts = urlsplit(started.url)
    query = dict(parse_qsl(parts.query)) | changes
    return urlunsplit(parts._replace(query=urlencode({k: v for k, v in query.items() if v is not None})))


class TestSignIn:
    @pytest.mark.parametrize("user", demo_users(), ids=lambda user: user.name)
    async def test_each_account_signs_in_as_itself(
        self, directory: Directory, browser: httpx.AsyncClient, user: User
    ) -> None:
        who = await sign_in(directory, browser, account=user.username)
        assert who == Identity(directory.config.tenant, user.object_id, user.name, user.username)

    async def test_the_browser_is_sent_to_plain_http_with_pkce_state_and_nonce(self, directory: Directory) -> None:
        started = await directory.identity().begin(CALLBACK)
        query = parse_qs(urlsplit(started.url).query)
        assert started.url.startswith(directory.config.http_url)
        assert query["code_challenge_method"] == ["S256"]
        assert query["state"] == [started.state]
        assert query["response_mode"] == ["query"]
        assert query["nonce"]
        assert query["code_challenge"]

    async def test_two_people_at_once_are_not_mixed_up(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        names = [user.username for user in demo_users()] * 3
        signed_in = await asyncio.gather(*(sign_in(directory, browser, identity, name) for name in names))
        assert [who.email for who in signed_in] == names

    async def test_an_authority_of_many_tenants_fills_in_the_issuer(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        identity = directory.identity(authority=f"{directory.config.https_url}/organizations")
        assert (await sign_in(directory, browser, identity)).tenant == directory.config.tenant

    async def test_tokens_are_not_kept_in_memory(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        await sign_in(directory, browser, identity)
        application: Any = identity._connect().application  # pyright: ignore[reportPrivateUsage]
        assert list(application.token_cache.search("RefreshToken")) == []
        assert list(application.token_cache.search("AccessToken")) == []


class TestRefused:
    async def test_a_code_works_once(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        started = await identity.begin(CALLBACK)
        answer = await pick(browser, started.url)
        await identity.redeem(started.flow, answer["code"], answer["state"])
        with pytest.raises(Unauthenticated, match="AADSTS54005"):
            await identity.redeem(started.flow, answer["code"], answer["state"])

    async def test_a_code_is_good_for_ten_minutes(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        started = await identity.begin(CALLBACK)
        answer = await pick(browser, started.url)
        directory.clock.shift = timedelta(minutes=10)
        with pytest.raises(Unauthenticated, match="AADSTS70008"):
            await identity.redeem(started.flow, answer["code"], answer["state"])

    async def test_an_invented_code_is_refused(self, directory: Directory) -> None:
        identity = directory.identity()
        started = await identity.begin(CALLBACK)
        with pytest.raises(Unauthenticated, match="AADSTS70000"):
            await identity.redeem(started.flow, "invented", started.state)

    async def test_another_state_is_refused(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        started = await identity.begin(CALLBACK)
        answer = await pick(browser, started.url)
        for state in ("", "other"):
            with pytest.raises(Unauthenticated, match="another sign-in"):
                await identity.redeem(started.flow, answer["code"], state)
        with pytest.raises(Unauthenticated):
            await identity.redeem({}, answer["code"], answer["state"])

    async def test_a_code_of_another_sign_in_is_refused(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        identity = directory.identity()
        mine, theirs = await identity.begin(CALLBACK), await identity.begin(CALLBACK)
        stolen = await pick(browser, theirs.url)
        with pytest.raises(Unauthenticated, match="AADSTS501481"):
            await identity.redeem(mine.flow, stolen["code"], mine.state)

    async def test_cancelling_comes_back_as_an_error_and_without_a_code(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        identity = directory.identity()
        started = await identity.begin(CALLBACK)
        answer = await pick(browser, started.url, account="")
        assert answer["error"] == "access_denied"
        assert answer["error_description"].startswith("AADSTS65004")
        assert answer["state"] == started.state
        with pytest.raises(Unauthenticated, match="cancelled"):
            await identity.redeem(started.flow, "", answer["state"])

    @pytest.mark.parametrize("allowed", [(), ("99999999-0000-0000-0000-000000000000",)])
    async def test_people_of_other_tenants_are_refused(
        self, directory: Directory, browser: httpx.AsyncClient, allowed: tuple[str, ...]
    ) -> None:
        with pytest.raises(Unauthenticated, match="ENTRA_ALLOWED_TENANTS"):
            await sign_in(directory, browser, directory.identity(allowed_tenants=allowed))

    async def test_a_wrong_client_secret_is_the_administrators_to_mend(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        with pytest.raises(Unavailable, match=r"AADSTS7000215.*ENTRA_CLIENT_SECRET"):
            await sign_in(directory, browser, directory.identity(client_secret="wrong"))


def _swap_payload(token: str) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["oid"] = demo_users()[2].object_id
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


def _unsigned(token: str) -> str:
    return jwt.encode(jwt.decode(token, options={"verify_signature": False}), "", "none", headers=_kid(token))


def _of_a_stranger(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, STRANGER, "RS256", headers=_kid(token))


def _symmetric(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "x" * 32, "HS256", headers=_kid(token))


def _kid(token: str) -> dict[str, Any]:
    return {"kid": jwt.get_unverified_header(token)["kid"]}


class TestIdToken:
    @pytest.mark.parametrize("rewrite", [_swap_payload, _unsigned, _of_a_stranger, _symmetric])
    async def test_a_tampered_token_is_refused(
        self, directory: Directory, browser: httpx.AsyncClient, rewrite: Callable[[str], str]
    ) -> None:
        directory.rewrite = rewrite
        with pytest.raises(Unauthenticated):
            await sign_in(directory, browser)

    async def test_properly_signed_by_a_published_key_it_passes(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        directory.edit = lambda claims: claims
        assert (await sign_in(directory, browser)).name == "Ada Developer"

    @pytest.mark.parametrize(
        "change",
        [
            {"nonce": "another"},
            {"nonce": None},
            {"aud": "other-client"},
            {"iss": "https://login.example/x/v2.0"},
            {"exp": 1_000_000_000},
            {"nbf": 4_102_444_800},
            {"tid": None},
            {"tid": "99999999-0000-0000-0000-000000000000"},
            {"tid": 7},
            {"oid": None},
            {"oid": ""},
            {"sub": None},
        ],
        ids=str,
    )
    async def test_properly_signed_with_a_wrong_claim_it_is_refused(
        self, directory: Directory, browser: httpx.AsyncClient, change: dict[str, Any]
    ) -> None:
        directory.edit = lambda claims: {k: v for k, v in (claims | change).items() if v is not None}
        with pytest.raises(Unauthenticated):
            await sign_in(directory, browser)

    async def test_a_tenant_cannot_pass_for_another_at_the_common_authority(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        identity = directory.identity(authority=f"{directory.config.https_url}/common", allowed_tenants=("victim",))
        directory.edit = lambda claims: claims | {"tid": "victim"}
        with pytest.raises(Unauthenticated, match="not valid"):
            await sign_in(directory, browser, identity)


class TestOutage:
    async def test_nobody_answering_is_unavailable_and_heals(
        self, certificates: Certificates, browser: httpx.AsyncClient
    ) -> None:
        ports = listening_socket(), listening_socket()
        numbers = [sock.getsockname()[1] for sock in ports]
        async with running(configuration(), certificates, ports) as first:
            identity = first.identity()
            await sign_in(first, browser, identity)
            started = await identity.begin(CALLBACK)
            answer = await pick(browser, started.url)
        with pytest.raises(Unavailable, match="ENTRA_AUTHORITY"):
            await first.identity().begin(CALLBACK)
        with pytest.raises(Unavailable, match="ENTRA_AUTHORITY"):
            await identity.redeem(started.flow, answer["code"], answer["state"])
        again = listening_socket(port=numbers[0]), listening_socket(port=numbers[1])
        async with running(configuration(), certificates, again) as second:
            await sign_in(second, browser, identity)  # with another signing key than before

    async def test_a_certificate_nobody_vouches_for_is_unavailable(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        imposter = certs.ensure(tmp_path / "imposter", {})
        async with running(configuration(), imposter) as directory:
            with pytest.raises(Unavailable):
                await directory.identity().begin(CALLBACK)

    async def test_an_authority_that_does_not_exist_is_unavailable(self, directory: Directory) -> None:
        with pytest.raises(Unavailable, match="ENTRA_AUTHORITY"):
            await directory.identity(authority=f"{directory.config.https_url}/nobody").begin(CALLBACK)


class TestAccountPage:
    async def test_it_shows_the_three_accounts(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        page = await browser.get((await directory.identity().begin(CALLBACK)).url)
        assert "Pick an account — Entra ID emulator" in page.text
        for user in demo_users():
            assert all(text in page.text for text in (user.name, user.username, user.role, f">{user.initials}<"))
        assert "Cancel" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]

    async def test_a_login_hint_puts_that_account_first(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        started = await directory.identity().begin(CALLBACK)
        page = await browser.get(with_query(started, login_hint="Grace@contoso.test"))
        assert page.text.index("grace@contoso.test") < page.text.index("ada@contoso.test")
        assert "autofocus" in page.text

    async def test_nobody_is_signed_in_silently(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        started = await directory.identity().begin(CALLBACK)
        answer = await browser.get(with_query(started, prompt="none"))
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        assert query["error"] == ["login_required"]
        assert query["error_description"][0].startswith("AADSTS50058")
        for prompt in ("login", "select_account", "consent"):
            assert (await browser.get(with_query(started, prompt=prompt))).status_code == 200

    @pytest.mark.parametrize(
        "uri",
        [
            "http://localhost:4280/auth/callback/",
            "http://localhost:4280/auth/callback?x=1",
            "http://localhost:4280/AUTH/callback",
            "https://localhost:4280/auth/callback",
            "http://localhost:4280",
            "http://evil.example/auth/callback",
            "http://localhost:9999/cb",
            "",
        ],
    )
    async def test_a_redirect_uri_must_match_exactly(
        self, directory: Directory, browser: httpx.AsyncClient, uri: str
    ) -> None:
        url = with_query(await directory.identity().begin(CALLBACK), redirect_uri=uri)
        for answer in (await browser.get(url), await browser.post(url, data={"account": "ada@contoso.test"})):
            assert answer.status_code == 400
            assert "AADSTS50011" in answer.text

    async def test_everything_is_escaped(self, certificates: Certificates, browser: httpx.AsyncClient) -> None:
        odd = "<img src=x onerror=alert(1)>\"'"
        config = configuration()
        config.clients[odd] = Client("x", frozenset({CALLBACK}))
        user = User("oid", f"{odd} {odd}", f"{odd.replace(' ', '')}@contoso.test", odd)
        async with running(replace(config, users=(user,)), certificates) as directory:
            query = {"response_type": "code", "client_id": odd, "redirect_uri": CALLBACK, "scope": "openid"}
            url = f"{directory.config.http_url}/{directory.config.tenant}/oauth2/v2.0/authorize?"
            pages = [
                await browser.get(url + urlencode(query | {"login_hint": user.username})),
                await browser.get(url + urlencode(query | {"client_id": odd + "!"})),
                await browser.get(url + urlencode(query | {"redirect_uri": odd})),
                await browser.post(url + urlencode(query), data={"account": odd}),
            ]
        for page in pages:
            assert "&lt;img" in page.text
            assert "<img" not in page.text

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_mode": "form_post"}, "invalid_request"),
            ({"scope": None}, "invalid_request"),
            ({"code_challenge_method": "S1"}, "invalid_request"),
        ],
    )
    async def test_what_it_does_not_support_comes_back_as_an_error(
        self, directory: Directory, browser: httpx.AsyncClient, change: dict[str, str | None], error: str
    ) -> None:
        started = await directory.identity().begin(CALLBACK)
        answer = await browser.get(with_query(started, **change))
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        assert query["error"] == [error]
        assert query["state"] == [started.state]


class TestTokenEndpoint:
    async def redeem(
        self, directory: Directory, browser: httpx.AsyncClient, code: str, **changes: str | None
    ) -> httpx.Response:
        form: dict[str, str | None] = {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
        }
        sent = {name: value for name, value in (form | changes).items() if value is not None}
        return await browser.post(f"{directory.config.http_url}/{directory.config.tenant}/oauth2/v2.0/token", data=sent)

    async def code(self, directory: Directory, browser: httpx.AsyncClient, **query: str | None) -> str:
        started = await directory.identity().begin(CALLBACK)
        plain: dict[str, str | None] = {"code_challenge": None, "code_challenge_method": None}
        return (await pick(browser, with_query(started, **(plain | query))))["code"]

    async def test_a_challenge_needs_its_verifier(self, directory: Directory, browser: httpx.AsyncClient) -> None:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).rstrip(b"=").decode()
        for verifier, status in (("verifier", 200), (None, 400), ("", 400), ("other", 400), (challenge, 400)):
            code = await self.code(directory, browser, code_challenge=challenge, code_challenge_method="S256")
            answer = await self.redeem(directory, browser, code, code_verifier=verifier)
            assert answer.status_code == status, verifier
            assert status == 200 or answer.json()["error_codes"] == [501481]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"redirect_uri": "http://localhost:9999/cb"}, 500112),
            ({"client_id": "other-client", "client_secret": "other-secret"}, 70000),
            ({"client_id": "nobody"}, 700016),
            ({"client_secret": None}, 7000215),
            ({"grant_type": "password"}, 70003),
            ({"grant_type": None}, 900144),
        ],
    )
    async def test_what_does_not_fit_the_code_is_refused(
        self, directory: Directory, browser: httpx.AsyncClient, changes: dict[str, str | None], code: int
    ) -> None:
        answer = await self.redeem(directory, browser, await self.code(directory, browser), **changes)
        assert answer.status_code in (400, 401)
        assert answer.json()["error_codes"] == [code]
        assert answer.json()["error_description"].startswith(f"AADSTS{code}: ")
        assert "access_token" not in answer.json()

    async def test_a_refresh_token_gives_new_tokens_to_its_client_only(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        first = (await self.redeem(directory, browser, await self.code(directory, browser))).json()
        changes = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        second = await self.redeem(directory, browser, "", **changes)
        assert jwt.decode(second.json()["id_token"], options={"verify_signature": False})["name"] == "Ada Developer"
        thief = {"client_id": "other-client", "client_secret": "other-secret"}
        refused = await self.redeem(directory, browser, "", **changes, **thief)
        assert refused.json()["error"] == "invalid_grant"

    async def test_msal_gets_application_tokens(self, directory: Directory) -> None:
        import msal

        def acquire(scope: str) -> dict[str, Any]:
            application = msal.ConfidentialClientApplication(
                CLIENT, client_credential=SECRET, authority=directory.config.authority, instance_discovery=False
            )
            return dict(application.acquire_token_for_client([scope]) or {})

        granted = await asyncio.to_thread(acquire, "https://graph.microsoft.com/.default")
        claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
        assert (claims["aud"], claims["appid"], claims["idtyp"]) == ("https://graph.microsoft.com", CLIENT, "app")
        refused = await asyncio.to_thread(acquire, "https://graph.microsoft.com/User.Read")
        assert refused["error_codes"] == [1002012]

    async def test_logout_goes_back_to_registered_origins_only(
        self, directory: Directory, browser: httpx.AsyncClient
    ) -> None:
        url = f"{directory.config.http_url}/{directory.config.tenant}/oauth2/v2.0/logout"
        back = await browser.get(url, params={"post_logout_redirect_uri": "http://localhost:4280/"})
        assert back.headers["location"] == "http://localhost:4280/"
        for target in ("http://evil.example/", "http://localhost:4280@evil.example/", "//evil.example", ""):
            stay = await browser.get(url, params={"post_logout_redirect_uri": target})
            assert stay.status_code == 200
            assert "You signed out" in stay.text


class TestCertificates:
    def test_they_are_kept_across_starts(self, tmp_path: Path) -> None:
        first = certs.ensure(tmp_path, {}).server.read_bytes()
        assert certs.ensure(tmp_path, {}).server.read_bytes() == first

    def test_keys_are_private(self, tmp_path: Path) -> None:
        made = certs.ensure(tmp_path / "certs", {})
        assert made.server.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in made.server.parent.iterdir() if b"PRIVATE KEY" in path.read_bytes()] == [
            "server.pem"
        ]

    @pytest.mark.parametrize("damage", ["server.pem", "ca.pem"])
    @pytest.mark.parametrize("content", [b"", b"rubbish", None])
    def test_damaged_ones_are_made_anew(self, tmp_path: Path, damage: str, content: bytes | None) -> None:
        first = certs.ensure(tmp_path, {}).server.read_bytes()
        if content is None:
            (tmp_path / damage).unlink()
        else:
            (tmp_path / damage).write_bytes(content)
        made = certs.ensure(tmp_path, {})
        assert made.server.read_bytes() != first
        assert b"BEGIN CERTIFICATE" in made.ca.read_bytes()

    def test_near_their_end_they_are_made_anew(self, tmp_path: Path) -> None:
        clock = ShiftedClock()
        first = certs.ensure(tmp_path, {}, clock=clock).server.read_bytes()
        clock.shift = timedelta(days=334)
        assert certs.ensure(tmp_path, {}, clock=clock).server.read_bytes() == first
        clock.shift = timedelta(days=336)
        assert certs.ensure(tmp_path, {}, clock=clock).server.read_bytes() != first

    def test_another_host_makes_them_anew(self, tmp_path: Path) -> None:
        first = certs.ensure(tmp_path, {}).server.read_bytes()
        assert certs.ensure(tmp_path, {}, ("localhost", "172.17.0.1")).server.read_bytes() != first

    def test_the_bundle_extends_the_one_in_use_but_never_itself(self, tmp_path: Path) -> None:
        roots = tmp_path / "roots.pem"
        roots.write_bytes(b"# corporate root\n")
        made = certs.ensure(tmp_path / "certs", {"SSL_CERT_FILE": str(roots)})
        assert made.bundle.read_bytes() == b"# corporate root\n\n" + made.ca.read_bytes()
        again = certs.ensure(tmp_path / "certs", made.environment)
        assert again.bundle.read_bytes().count(made.ca.read_bytes()) == 1
        assert again.bundle.read_bytes().count(b"BEGIN CERTIFICATE") > 20
