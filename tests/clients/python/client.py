"""Prints one line per expression event. Usage: client.py [ADDRESS] [COUNT]"""

import asyncio
import json
import sys

import websockets


async def main(address="ws://127.0.0.1:8765/v1/events", most="0"):
    seen = 0
    async with websockets.connect(address, subprotocols=["expressd.v1"]) as socket:
        hello = json.loads(await socket.recv())
        print("labels:", ", ".join(hello["bundle"]["labels"]), flush=True)
        await socket.send(
            json.dumps({"type": "subscribe", "events": ["expression"], "min_confidence": 0.5})
        )
        async for frame in socket:
            event = json.loads(frame)
            if event["type"] == "expression":
                print(
                    f'{event["end_ns"] / 1e9:8.2f} s  {event["subject"]:6} '
                    f'{event["top"]:10} {event["confidence"]:.2f}',
                    flush=True,
                )
                seen += 1
                if seen == int(most):
                    return
            elif event["type"] in ("error", "dropped"):
                print(event, file=sys.stderr, flush=True)


asyncio.run(main(*sys.argv[1:]))
