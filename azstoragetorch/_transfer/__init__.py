"""Moving bytes between one blob and memory, in asyncio only.

Everything here speaks to the service through the seam in ``remote``; nothing here knows about threads, torch or HTTP.
"""
