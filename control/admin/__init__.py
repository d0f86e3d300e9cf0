"""The admin address: metrics for Prometheus, the state as JSON, what a supervisor asks to know whether to wait, and
service discovery: who is behind a name, and instances that register.

All but the last reads and changes nothing: it answers GET and HEAD from the live objects, when asked.
"""
