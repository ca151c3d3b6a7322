"""What every server of these programs does around its servicers."""

import asyncio
import signal


async def serve(server, address, grace=5, told_to_stop=None):
    """Serve until SIGTERM, then stop gracefully."""
    port = server.add_insecure_port(address)
    await server.start()
    told_to_stop = told_to_stop or asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    print(f"listening on {port}", flush=True)
    await told_to_stop.wait()
    print("stopping", flush=True)
    await server.stop(grace)
    await server.wait_for_termination()
    print("stopped", flush=True)
