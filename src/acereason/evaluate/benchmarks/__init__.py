"""Published benchmarks: read, asked (resumable), judged, scored and compared."""
