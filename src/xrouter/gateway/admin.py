"""The admin API, below /admin: keys, users, teams, tags, their budgets and limits, and who spent what.

    POST   /admin/keys               a new key; its secret is in this answer and nowhere else
    GET    /admin/keys               ?limit=&after=&name=&user=&team=
    GET    /admin/keys/{id}          PATCH changes it, DELETE revokes it
    POST   /admin/keys/{id}/rotate   a new secret; the old one is taken for {"grace_s": ...} more
    POST   /admin/users              likewise /admin/teams and /admin/tags
    GET    /admin/users              ?limit=&after=
    GET    /admin/users/{id}         PATCH changes it, DELETE ends its budgets and limits
    GET    /admin/spend              ?by=key|user|team|tag|model&since=&until=&limit=&offset=

Every request needs the admin key. Every change is one line of the log `xrouter.audit`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from ..accounts import manage
from ..accounts.account import ACCOUNT_KINDS, Account, AccountKind
from ..accounts.faults import no_account, no_key
from ..accounts.key import VirtualKey
from ..accounts.shapes import account_objects, key_objects
from ..accounts.store import PAGE, AccountStore
from ..errors import BodyTooLargeError, MethodNotAllowedError, RequestError, UnknownUrlError, XRouterError
from ..ledger.ledger import Ledger
from ..ledger.spend import SPEND_BY, SpendReader
from ..settings_tables.access import AccessSettings
from . import admin_forms as forms
from .asgi import ASGIApp, Receive, Scope, Send, read_body, request_id
from .auth import ADMIN as PREFIX
from .auth import check_admin
from .client_key import bearer
from .reply import error_headers, error_object

logger = logging.getLogger("xrouter.audit")

MAX_BODY_BYTES = 256 * 1024
_REQUEST_ID = "xrouter.request_id"


def admin_app(
    store: AccountStore,
    ledger: Ledger,
    access: AccessSettings,
    *,
    admin_key: str | None,
    changed: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """An ASGI application for every path that begins with PREFIX, which it expects whole.

    changed: called after each change, for `Gate.forget`. What nobody foresaw is raised, with no response begun.
    """
    api = _Admin(store, ledger, changed)
    routes = Router(api.routes(), redirect_slashes=False, default=_no_such_path)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # With "app" in the scope Starlette raises what it refuses.
        scope = {**scope, "app": routes, _REQUEST_ID: request_id(scope)}
        try:
            check_admin(bearer(scope), admin_key, access)
            if not scope["path"].isprintable():
                raise UnknownUrlError(f"there is no {scope['path']!r}")
            await routes(scope, receive, send)
        except XRouterError as error:
            await _error(error, scope)(scope, receive, send)
        except HTTPException as refused:
            allow = (refused.headers or {}).get("Allow", "")
            wrong = MethodNotAllowedError(
                f"{scope['path']} takes {allow}, not {scope['method']}", allow=allow
            )
            await _error(wrong, scope)(scope, receive, send)

    return app


class _Admin:
    def __init__(self, store: AccountStore, ledger: Ledger, changed: Callable[[], None]) -> None:
        self._store = store
        self._ledger = ledger
        self._changed = changed

    def routes(self) -> list[Route]:
        keys = f"{PREFIX}/keys"
        return [
            _route(keys, POST=self.create_key, GET=self.list_keys),
            _route(f"{keys}/{{id}}", GET=self.key, PATCH=self.change_key, DELETE=self.revoke_key),
            _route(f"{keys}/{{id}}/rotate", POST=self.rotate_key),
            *(route for kind in ACCOUNT_KINDS for route in self._account_routes(kind)),
            _route(f"{PREFIX}/spend", GET=self.spend),
        ]

    async def create_key(self, request: Request) -> Response:
        now = time.time()
        fields = forms.key_fields(await _body(request), now)
        made = await manage.create_key(self._store, fields.pop("name", None), now, **fields)
        self._done("key created", request, key_id=made.key.id, name=made.key.name, **_scope_of(made.key))
        return _json(201, {**(await self._shown(made.key, now)), "secret": made.secret}, request)

    async def list_keys(self, request: Request) -> Response:
        query = request.query_params
        forms.known_query(query, "limit", "after", "name", "user", "team")
        limit = forms.page_of(query, PAGE)
        wanted = {name: query[name] for name in ("name", "user", "team") if name in query}
        keys = await self._store.keys(after=query.get("after", ""), limit=limit + 1, **wanted)
        data = await key_objects(keys[:limit], self._ledger, time.time())
        return _page(data, len(keys) > limit, request)

    async def key(self, request: Request) -> Response:
        key_id = request.path_params["id"]
        key = await self._store.key(key_id)
        if key is None:
            raise no_key(key_id)
        return _json(200, await self._shown(key, time.time()), request)

    async def change_key(self, request: Request) -> Response:
        now = time.time()
        fields = forms.key_fields(await _body(request), now)
        key = await manage.change_key(self._store, request.path_params["id"], now, **fields)
        self._done("key changed", request, key_id=key.id, fields=sorted(fields))
        return _json(200, await self._shown(key, now), request)

    async def rotate_key(self, request: Request) -> Response:
        now = time.time()
        grace_s = forms.grace_s(await _body(request))
        made = await manage.rotate_key(self._store, request.path_params["id"], now, grace_s)
        self._done("key rotated", request, key_id=made.key.id, grace_s=grace_s)
        return _json(200, {**(await self._shown(made.key, now)), "secret": made.secret}, request)

    async def revoke_key(self, request: Request) -> Response:
        now = time.time()
        key = await manage.revoke_key(self._store, request.path_params["id"], now)
        self._done("key revoked", request, key_id=key.id)
        return _json(200, await self._shown(key, now), request)

    def _account_routes(self, kind: AccountKind) -> list[Route]:
        path = f"{PREFIX}/{kind}s"

        async def shown(account: Account, request: Request, status: int = 200) -> Response:
            (data,) = await account_objects([account], self._ledger, time.time())
            return _json(status, data, request)

        async def create(request: Request) -> Response:
            fields = forms.account_fields(await _body(request), new=True)
            account_id = fields.pop("id", None)
            account = await manage.create_account(self._store, kind, account_id, time.time(), **fields)
            self._done(f"{kind} created", request, id=account.id)
            return await shown(account, request, 201)

        async def list_all(request: Request) -> Response:
            query = request.query_params
            forms.known_query(query, "limit", "after")
            limit = forms.page_of(query, PAGE)
            accounts = await self._store.accounts(kind, after=query.get("after", ""), limit=limit + 1)
            data = await account_objects(accounts[:limit], self._ledger, time.time())
            return _page(data, len(accounts) > limit, request)

        async def one(request: Request) -> Response:
            account_id = request.path_params["id"]
            account = await self._store.account(kind, account_id)
            if account is None:
                raise no_account(kind, account_id)
            return await shown(account, request)

        async def change(request: Request) -> Response:
            fields = forms.account_fields(await _body(request), new=False)
            account = await manage.change_account(self._store, kind, request.path_params["id"], **fields)
            self._done(f"{kind} changed", request, id=account.id, fields=sorted(fields))
            return await shown(account, request)

        async def remove(request: Request) -> Response:
            account_id = request.path_params["id"]
            await self._store.remove_account(kind, account_id)
            self._done(f"{kind} removed", request, id=account_id)
            return _json(200, {"object": kind, "id": account_id, "removed": True}, request)

        return [
            _route(path, POST=create, GET=list_all),
            _route(f"{path}/{{id}}", GET=one, PATCH=change, DELETE=remove),
        ]

    async def spend(self, request: Request) -> Response:
        query, now = request.query_params, time.time()
        forms.known_query(query, "by", "since", "until", "limit", "offset")
        by = next((by for by in SPEND_BY if by == query.get("by", "key")), None)
        if by is None:
            raise RequestError(f"by must be one of {', '.join(SPEND_BY)}, got {query['by']!r}", param="by")
        if not isinstance(self._ledger, SpendReader):
            raise UnknownUrlError("this gateway's ledger does not add up who spent what")
        since, until = (forms.moment_of(query, name, now) for name in ("since", "until"))
        limit, offset = forms.page_of(query, PAGE), forms.offset_of(query)
        spends = await asyncio.to_thread(self._ledger.spend, by, since, until)
        return _json(
            200,
            {
                "object": "list",
                "by": by,
                "since": since,
                "until": until,
                "data": [
                    {by: spend.name, "requests": spend.requests, "cost_usd": f"{spend.cost_usd:f}"}
                    for spend in spends[offset : offset + limit]
                ],
                "has_more": len(spends) > offset + limit,
            },
            request,
        )

    async def _shown(self, key: VirtualKey, now: float) -> dict[str, Any]:
        (data,) = await key_objects([key], self._ledger, now)
        return data

    def _done(self, event: str, request: Request, **fields: Any) -> None:
        """Make a change known, and write it down."""
        self._changed()
        client = request.client.host if request.client else None
        logger.info(
            event, extra={"fields": {**fields, "client": client, "request_id": request.scope[_REQUEST_ID]}}
        )


def _scope_of(key: VirtualKey) -> dict[str, Any]:
    fields = {"user": key.user, "team": key.team, "models": key.models}
    return {name: value for name, value in fields.items() if value is not None}


def _route(path: str, **handlers: Callable[[Request], Awaitable[Response]]) -> Route:
    """One path whose methods go their own ways."""

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, handle, methods=list(handlers))


async def _body(request: Request) -> dict[str, Any]:
    return forms.json_object(await read_body(request.scope, request.receive, MAX_BODY_BYTES))


def _page(data: Sequence[dict[str, Any]], more: bool, request: Request) -> Response:
    """A list; the next page begins `after` its last id."""
    last = data[-1]["id"] if data else None
    return _json(200, {"object": "list", "data": data, "has_more": more, "last_id": last}, request)


def _json(status: int, data: Any, request: Request) -> Response:
    return _response(status, data, request.scope)


def _error(error: XRouterError, scope: Scope) -> Response:
    headers = dict(error_headers(error))
    if isinstance(error, BodyTooLargeError):
        headers["connection"] = "close"  # the rest of the body is still on the wire
    return _response(error.status, error_object(error), scope, headers)


def _response(status: int, data: Any, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """Nothing here is to be kept by anyone on the way: answers may hold a secret."""
    return Response(
        orjson.dumps(data),
        status,
        {"cache-control": "no-store", "x-request-id": scope[_REQUEST_ID], **(headers or {})},
        media_type="application/json",
    )


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise UnknownUrlError(
        f"there is no {scope['path']}; the admin API has {PREFIX}/keys, /users, /teams, /tags and /spend"
    )
