"""The admin address: metrics for Prometheus, the state as JSON, and what a supervisor asks to know whether to wait.

It reads and changes nothing: everything here answers GET and HEAD from the live objects, when asked.
"""
