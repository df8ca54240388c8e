"""Does a system prompt that a router writes help? The paired experiment behind docs/experiments/prompts.md."""
