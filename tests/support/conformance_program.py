"""The server that the conformance scenarios of MCP expect, by the SDK: `python conformance_program.py stdio|http`.

By HTTP it prints its port, and listens on loopback until it is ended.
"""

import asyncio
import socket
import sys
from typing import Any, Final

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.transport_security import TransportSecuritySettings

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

server = MCPServer("conformance", version="1")


@server.tool()
def test_simple_text() -> str:
    """Simple text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> types.ImageContent:
    """Image content."""
    return types.ImageContent(data=PNG, mime_type="image/png")


@server.tool()
def test_audio_content() -> types.AudioContent:
    """Audio content."""
    return types.AudioContent(data=WAV, mime_type="audio/wav")


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


@server.tool()
def test_embedded_resource() -> types.EmbeddedResource:
    """Embedded resource."""
    return embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")


@server.tool()
def test_multiple_content_types() -> list[Any]:
    """Multiple content types."""
    return [
        types.TextContent(text="Multiple content types test:"),
        types.ImageContent(data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}'),
    ]


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Tool with logging."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.05)
    return "Logging done"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Tool with progress."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
        await asyncio.sleep(0.05)
    return "Progress done"


@server.tool()
def test_error_handling() -> str:
    """Error handling."""
    raise ValueError("This tool intentionally returns an error for testing")


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Sampling."""
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if isinstance(answer.content, types.TextContent) else answer.content}"


async def elicited(ctx: Context, message: str, properties: dict[str, Any], required: list[str]) -> str:
    schema = {"type": "object", "properties": properties, "required": required}
    # On the stream of the call: the other one may not be open yet, and what is said there is lost.
    answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
    return f"User response: action={answer.action}, content={answer.content}"


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Elicitation."""
    properties = {name: {"type": "string", "description": name} for name in ("username", "email")}
    return await elicited(ctx, message, properties, ["username", "email"])


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Elicitation sep1034 defaults."""
    properties: dict[str, Any] = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await elicited(ctx, "Please review and update the form fields with defaults", properties, [])


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Elicitation sep1330 enums."""
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{number}", "title": f"Title {number}"} for number in (1, 2, 3)]
    properties: dict[str, Any] = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await elicited(ctx, "Please select options from the enum fields", properties, [])


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Static text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """Static binary."""
    import base64

    return base64.b64decode(PNG)


@server.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    """Watched."""
    return "Watched resource content"


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """Template."""
    return f'{{"id": "{id}", "templateTest": true, "data": "Data for ID: {id}"}}'


@server.prompt()
def test_simple_prompt() -> str:
    """Simple prompt."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """Prompt with embedded resource."""
    content = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [UserMessage(content), UserMessage("Please process the embedded resource above.")]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """Prompt with image."""
    image = types.ImageContent(data=PNG, mime_type="image/png")
    return [UserMessage(image), UserMessage("Please analyze the image above.")]


async def done(ctx: ServerRequestContext[Any], params: types.RequestParams) -> types.EmptyResult:
    """Do what has no effect that a scenario looks for."""
    return types.EmptyResult()


async def complete(ctx: ServerRequestContext[Any], params: types.CompleteRequestParams) -> types.CompleteResult:
    """Complete nothing."""
    return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))


# What the SDK's decorators do not offer, or not typed.
below = server._lowlevel_server
below.add_request_handler("completion/complete", types.CompleteRequestParams, complete)
below.add_request_handler("logging/setLevel", types.SetLevelRequestParams, done)
below.add_request_handler("resources/subscribe", types.SubscribeRequestParams, done)
below.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, done)


def main(transport: str) -> None:
    """Serve."""
    if transport == "stdio":
        server.run(transport="stdio")
        return
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    security = TransportSecuritySettings(allowed_hosts=[f"127.0.0.1:{port}"], allowed_origins=[])
    app = server.streamable_http_app(transport_security=security)
    print(port, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1])
