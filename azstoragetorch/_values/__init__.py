"""Plain values: URLs, ranges, options, buffers. No I/O, no threads, no event loop."""
