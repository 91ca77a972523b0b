"""Speaking to the service: the only package that imports azure and aiohttp."""
