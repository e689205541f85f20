"""The Python suites of tools/interop/run."""
