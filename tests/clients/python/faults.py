"""Violates the protocol and prints each reaction as a line: [violation, error code, close code]."""

import asyncio
import json
import sys

import websockets


async def fault(address, name, send, **options):
    async with websockets.connect(address, open_timeout=60, close_timeout=60, **options) as socket:
        code = None
        try:
            await send(socket)
        except websockets.ConnectionClosed:
            pass  # Closed while sending; frames before the close can still be read.
        try:
            while True:
                event = json.loads(await socket.recv())
                code = event["code"] if event["type"] == "error" else code
        except websockets.ConnectionClosed:
            print(json.dumps([name, code, socket.close_code]), flush=True)


async def nothing(_):
    pass


async def flood(socket):
    for number in range(60):
        await socket.send(json.dumps({"type": "ping", "data": number}))


async def main(address):
    await fault(address, "garbage", lambda socket: socket.send("{nonsense"))
    await fault(address, "list", lambda socket: socket.send("[]"))
    await fault(address, "binary", lambda socket: socket.send(b"{}"))
    await fault(address, "large", lambda socket: socket.send("x" * 100_000))
    await fault(address, "huge", lambda socket: socket.send("x" * 8_000_000))
    await fault(address, "flood", flood)
    await fault(address, "origin", nothing, origin="https://example.org")


asyncio.run(main(sys.argv[1]))
