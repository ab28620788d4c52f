"""Asyncio loops around the pure core: observe, decide, apply, report. They take time from the clock only."""
