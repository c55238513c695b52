"""An identity provider whose people sign in when a test says so."""

from itertools import count

from shared.core.errors import PlatformError, Unauthenticated
from shared.core.ports import Identity, Json, SignIn

TENANT = "11111111-1111-4111-8111-111111111111"


class FakeIdentity:
    """`consent` gives the code that Entra ID would send back for a person; `failure` is raised by the next redeem."""

    def __init__(self) -> None:
        self.failure: PlatformError | None = None
        self._people: dict[str, Identity] = {}
        self._numbers = count(1)

    async def begin(self, redirect_uri: str) -> SignIn:
        state = f"state-{next(self._numbers)}"
        flow: Json = {"state": state, "redirect_uri": redirect_uri, "code_verifier": f"verifier of {state}"}
        return SignIn(f"https://login.example/authorize?state={state}", state, flow)

    async def redeem(self, flow: Json, code: str, state: str) -> Identity:
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        person = self._people.pop(code, None)
        if person is None or flow["state"] != state or flow["code_verifier"] != f"verifier of {state}":
            raise Unauthenticated("The sign-in was refused. Start again.")
        return person

    def consent(self, name: str, email: str = "", tenant: str = TENANT) -> str:
        """Object ids follow the name: the same name is the same person."""
        code = f"code-{next(self._numbers)}"
        self._people[code] = Identity(tenant, f"oid-{name.lower()}", name, email or f"{name.lower()}@contoso.test")
        return code
