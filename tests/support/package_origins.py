"""Two package registries with one tiny package each: a simple index for pip (PEP 503) and a registry for npm."""

import base64
import hashlib
import io
import tarfile
import zipfile

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application

PIP_HOST = "pypi.example.com"
NPM_HOST = "npm.example.com"
PIP_PACKAGE = "tinywheel"
NPM_PACKAGE = "tinypackage"
_WHEEL_NAME = f"{PIP_PACKAGE}-1.0-py3-none-any.whl"


def pip_application(ledger: Ledger, token: str) -> web.Application:
    """Return an index that accepts basic authentication as __token__ and nothing else."""
    pair = base64.b64encode(f"__token__:{token}".encode()).decode()
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Basic {pair}"), _refuse)
    wheel = _wheel()

    async def project(request: web.Request) -> web.Response:
        digest = hashlib.sha256(wheel).hexdigest()
        link = f'<a href="/files/{_WHEEL_NAME}#sha256={digest}">{_WHEEL_NAME}</a>'
        return web.Response(text=f"<!DOCTYPE html><html><body>{link}</body></html>", content_type="text/html")

    async def download(request: web.Request) -> web.Response:
        return web.Response(body=wheel, content_type="application/octet-stream")

    application.router.add_get(f"/simple/{PIP_PACKAGE}/", project)
    application.router.add_get(f"/files/{_WHEEL_NAME}", download)
    return application


def npm_application(ledger: Ledger, token: str) -> web.Application:
    """Return a registry that accepts a bearer token and nothing else."""
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Bearer {token}"), _refuse)
    tarball = _tarball()

    async def packument(request: web.Request) -> web.Response:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        url = f"https://{NPM_HOST}/{NPM_PACKAGE}/-/{NPM_PACKAGE}-1.0.0.tgz"
        version = {
            "name": NPM_PACKAGE,
            "version": "1.0.0",
            "dist": {"tarball": url, "integrity": integrity},
        }
        document = {"name": NPM_PACKAGE, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        return web.json_response(document)

    async def download(request: web.Request) -> web.Response:
        return web.Response(body=tarball, content_type="application/octet-stream")

    application.router.add_get(f"/{NPM_PACKAGE}", packument)
    application.router.add_get(f"/{NPM_PACKAGE}/-/{NPM_PACKAGE}-1.0.0.tgz", download)
    return application


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    return web.Response(status=401, text=f"credential {presence.value}", headers={"WWW-Authenticate": "Basic"})


def _wheel() -> bytes:
    info = f"{PIP_PACKAGE}-1.0.dist-info"
    files = {
        f"{PIP_PACKAGE}.py": "value = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PIP_PACKAGE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(name, text)
    return content.getvalue()


def _tarball() -> bytes:
    files = {
        "package/package.json": f'{{"name": "{NPM_PACKAGE}", "version": "1.0.0"}}',
        "package/index.js": "module.exports = 42\n",
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()
