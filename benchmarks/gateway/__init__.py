"""Our gateway beside the direct upstream, LiteLLM's proxy and TensorZero: one command, one machine, one run.

python -m benchmarks.gateway --quick                      # a smoke run
python -m benchmarks.gateway --out docs/experiments/gateway.md --raw runs/gateway.json
"""
