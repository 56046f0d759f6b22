"""A viewer of the camera's page that decodes nothing."""

from __future__ import annotations

import struct


async def view(link: str) -> None:
    """One viewer that decodes nothing: takes every picture that it can, as a page does."""
    import aiohttp

    async with aiohttp.ClientSession() as client:
        headers = {"Origin": link.rstrip("/")}
        async with client.ws_connect(f"{link}ws", headers=headers, max_msg_size=0) as socket:
            await socket.send_str('{"command": "watch", "value": "plain"}')
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    struct.unpack_from("<fI", message.data)
                    await socket.send_str('{"command": "seen"}')
