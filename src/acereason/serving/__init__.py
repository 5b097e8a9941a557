"""A model behind OpenAI's routes: the embedded engine, asked over HTTP."""
