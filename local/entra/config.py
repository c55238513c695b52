"""What the emulated directory holds."""

from dataclasses import dataclass, field

DEMO_TENANT = "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True, slots=True)
class Client:
    """An app registration. Redirect URIs match exactly."""

    secret: str = field(repr=False)
    redirect_uris: frozenset[str]


@dataclass(frozen=True, slots=True)
class User:
    """A person of the directory. `username` is also the e-mail address; `role` is only shown on the account page."""

    object_id: str
    name: str
    username: str
    role: str

    @property
    def initials(self) -> str:
        return "".join(word[0] for word in self.name.split()[:2]).upper()


def demo_users() -> tuple[User, ...]:
    return (
        User("aaaaaaaa-0000-4000-8000-000000000001", "Ada Developer", "ada@contoso.test", "Developer"),
        User("aaaaaaaa-0000-4000-8000-000000000002", "Bob Reviewer", "bob@contoso.test", "Reviewer"),
        User("aaaaaaaa-0000-4000-8000-000000000003", "Grace Admin", "grace@contoso.test", "Platform admin"),
    )


@dataclass(frozen=True, slots=True)
class EntraConfig:
    """One tenant and the two addresses it is reached at.

    MSAL insists on TLS for authority and token endpoint; the browser is sent to plain HTTP, so that it never meets
    the local certificate. `clients` by client id; it may change while the emulator runs.
    """

    https_url: str
    http_url: str
    clients: dict[str, Client]
    users: tuple[User, ...] = field(default_factory=demo_users)
    tenant: str = DEMO_TENANT

    @property
    def issuer(self) -> str:
        return f"{self.https_url}/{self.tenant}/v2.0"

    @property
    def authority(self) -> str:
        return f"{self.https_url}/{self.tenant}"

    def user(self, username: str) -> User | None:
        return next((user for user in self.users if user.username == username.strip().lower()), None)
