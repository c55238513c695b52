"""Who people are here: users, sessions and personal API tokens."""

from typing import Annotated

from pydantic import BaseModel, Field

from shared.core.access import Principal
from shared.core.resources import COMPOSED, LINE, WHOLE, Request, Resource


class UserRecord(Resource):
    """A person, known by tenant and object id."""

    id: str
    tenant: str
    object_id: str
    name: str
    email: str
    platform_admin: bool = False
    disabled: bool = False
    created_at: str
    last_sign_in: str

    def user(self) -> "User":
        return User(id=self.id, name=self.name, email=self.email, platform_admin=self.platform_admin)

    def principal(self) -> Principal:
        return Principal(self.id, self.name, self.email, self.platform_admin)


class User(BaseModel):
    id: str
    name: str
    email: str
    platform_admin: bool


class SignInStart(BaseModel):
    auth_url: str
    state: str


class SignInFinish(Request):
    code: str = Field(min_length=1, max_length=8192)
    state: str = Field(min_length=1, max_length=512)


class RefreshRequest(Request):
    refresh_token: str = Field(min_length=1, max_length=512)


class Session(BaseModel):
    """`expires_in` is in seconds and is the access token's."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    user: User


class RefreshFamily(Resource):
    """All refresh tokens that descend from one sign-in; only hashes are kept."""

    user_id: str
    valid: list[str]
    used: dict[str, str]
    """Hash of a rotated token -> when it was rotated."""
    expires_at: str
    revoked: bool = False


class NewApiToken(Request):
    name: Annotated[str, LINE, Field(min_length=1, max_length=100), COMPOSED]
    expires_in_days: Annotated[int, Field(ge=1, le=3650), WHOLE] | None = None


class ApiTokenRecord(Resource):
    id: str
    name: str
    prefix: str
    hash: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None = None


class ApiToken(BaseModel):
    id: str
    name: str
    prefix: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class CreatedApiToken(ApiToken):
    """`token` is shown this once and never again."""

    token: str
